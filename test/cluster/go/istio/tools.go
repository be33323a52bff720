//go:build tools

// Package istio pins what the mesh's peers are built from: Istio's own control plane and command line, unchanged.
package istio

import (
	_ "istio.io/istio/istioctl/cmd/istioctl"
	_ "istio.io/istio/pilot/cmd/pilot-discovery"
)

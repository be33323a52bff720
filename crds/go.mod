// Pins the modules that scripts/crds takes the schemas from; go.sum holds their hashes. No Go code is built.
module tulle.dev/crds

go 1.24

require (
	istio.io/api v1.31.1
	sigs.k8s.io/gateway-api v1.6.0
)

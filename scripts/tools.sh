# Sourced. Which programs each task runs, and the Debian package that holds each: "program package".

# What a mesh on one machine needs.
start_tools="nft nftables
ip iproute2
ss iproute2
nsenter util-linux
setpriv util-linux
unshare util-linux"

# What making container images takes: tools for Node's binary, and the programs that go into images.
image_tools="patchelf patchelf
strip binutils
curl curl
nft nftables
ip iproute2
nsenter util-linux
unshare util-linux"

# What a Kubernetes cluster in namespaces needs (test/cluster). The CNI plugins are in no PATH.
cluster_tools="$start_tools
/usr/lib/cni/bridge containernetworking-plugins
conntrack conntrack
containerd containerd
etcd etcd-server
iptables iptables
openssl openssl
runc runc
tcpdump tcpdump"

# What the tests and the bench add: foreign peers, load generators, captures.
test_tools="$start_tools
$image_tools
$cluster_tools
h2load nghttp2-client
haproxy haproxy
iperf3 iperf3
nghttp nghttp2-client
nginx nginx-light
prometheus prometheus
wrk wrk"

# Services that apt would start, now or at the next boot, only because a test wants the program.
system_services="containerd etcd haproxy iperf3 nginx prometheus"

# The lines "program package" of those tools of list $1 that are not there.
missing_tools() {
  local program package
  while read -r program package; do
    [ -z "$program" ] || type -P "$program" >/dev/null || echo "$program $package"
  done <<<"$1"
}

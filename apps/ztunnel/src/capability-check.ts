import { MeshError, messageOf, PACKET_MARK } from "@tulle/base";
import { AF_INET, NetNamespace, openSocket, orThrow, SocketOptions, setOption } from "@tulle/linux";

/**
 * Tries once what every pod's proxy will need: entering a network namespace and marking a socket in it. Throws MeshError
 * `MISSING_CAPABILITIES` instead of failing later, pod by pod (spec: l4-ztunnel §1.4).
 */
export function checkCapabilities(): void {
  try {
    using own = NetNamespace.open("/proc/thread-self/ns/net");
    own.enter(() => {
      using socket = openSocket(AF_INET, "stream");
      orThrow(setOption(socket, SocketOptions.mark, PACKET_MARK), "set SO_MARK");
    });
  } catch (error) {
    const needs =
      "shared mode needs the capabilities SYS_ADMIN (to enter pods), NET_ADMIN and NET_RAW (to mark sockets)";
    throw new MeshError(`${needs}: ${messageOf(error)}`, {
      code: "MISSING_CAPABILITIES",
      side: "internal",
      cause: error,
    });
  }
}

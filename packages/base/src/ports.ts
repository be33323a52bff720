/** Istio's ambient ports and marks (spec: l4-ztunnel §1.1, §1.4). */
export const OUTBOUND_PORT = 15001;
export const INBOUND_PLAINTEXT_PORT = 15006;
export const INBOUND_HBONE_PORT = 15008;
export const SOCKS5_PORT = 15080;
export const DNS_PORT = 15053;
export const ADMIN_PORT = 15000;
export const METRICS_PORT = 15020;
export const READINESS_PORT = 15021;
/** SO_MARK of every socket that ztunnel opens in a pod; keeps its own packets from being captured. */
export const PACKET_MARK = 0x539;
/** Connection mark of connections from ztunnel to the application, so that replies return to ztunnel. */
export const TPROXY_MARK = 0x111;
export const MARK_MASK = 0xfff;

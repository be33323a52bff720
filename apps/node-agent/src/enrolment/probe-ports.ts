import type { Container, Pod, ProbeHandler } from "../objects.ts";

/** TCP ports at which the kubelet knocks, of its own accord, on a pod (spec: control-plane §7.7). */

/**
 * Ports of every startup, readiness and liveness probe and of every lifecycle hook that goes over the network, of
 * containers and sidecars; sorted. Named ports are those of the probe's own container. A probe that names another host
 * does not come to this pod.
 */
export function declaredProbePorts(pod: Pod): readonly number[] {
  const ports = new Set<number>();
  const sidecars = (pod.spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always");
  for (const container of [...(pod.spec?.containers ?? []), ...sidecars]) {
    for (const handler of handlersOf(container)) {
      const port = portOf(handler, container);
      if (port !== undefined) ports.add(port);
    }
  }
  return [...ports].sort((a, b) => a - b);
}

function handlersOf(container: Container): ProbeHandler[] {
  const { startupProbe, readinessProbe, livenessProbe, lifecycle } = container;
  const all = [startupProbe, readinessProbe, livenessProbe, lifecycle?.postStart, lifecycle?.preStop];
  return all.filter((handler) => handler !== undefined && handler !== null);
}

function portOf({ httpGet, tcpSocket, grpc }: ProbeHandler, container: Container): number | undefined {
  const net = httpGet ?? tcpSocket;
  if (net?.host !== undefined && net.host !== "") return undefined;
  const port = net === undefined ? grpc?.port : net.port;
  if (typeof port === "number") return valid(port);
  if (port === undefined) return undefined;
  // As the kubelet: a name of the container's own ports, else digits.
  const named = container.ports?.find(({ name }) => name === port)?.containerPort;
  return valid(named ?? (/^\d+$/.test(port) ? Number(port) : Number.NaN));
}

function valid(port: number): number | undefined {
  return Number.isInteger(port) && port > 0 && port <= 0xffff ? port : undefined;
}

import { createHash } from "node:crypto";
import type { Images } from "../resources/images.ts";
import type { Deployment } from "../resources/kinds.ts";
import { isReady, type Pod } from "./pod.ts";

/** Which pods a Deployment should have: pure, so that every case can be a row of a table. */
export interface ReplicaPlan {
  readonly create: readonly PlannedPod[];
  readonly remove: readonly Pod[];
}

export interface PlannedPod {
  readonly name: string;
  readonly replicaSet: string;
  readonly templateHash: string;
}

export const TEMPLATE_HASH_LABEL = "pod-template-hash";
/** Letters and digits that cannot spell a word or be mistaken for one another, as Kubernetes uses for generated names. */
const ALPHABET = "bcdfghjklmnpqrstvwxz2456789";

/**
 * `pods` are those of this Deployment. New pods come first; an old one goes when a ready new one has taken its place. Names
 * follow from the Deployment, its template and the position alone, so the same directory gives the same names.
 */
export function planReplicas(deployment: Deployment, images: Images, pods: readonly Pod[]): ReplicaPlan {
  const replicas = deployment.spec.replicas ?? 1;
  const templateHash = templateHashOf(deployment, images);
  const replicaSet = `${deployment.metadata.name}-${templateHash}`;
  const wanted = Array.from({ length: replicas }, (_, position) => `${replicaSet}-${suffixOf(replicaSet, position)}`);

  const taken = new Set(pods.map((pod) => pod.metadata.name));
  const create = wanted.filter((name) => !taken.has(name)).map((name) => ({ name, replicaSet, templateHash }));

  const living = pods.filter((pod) => pod.metadata.deletionTimestamp === undefined);
  const isCurrent = (pod: Pod) => pod.metadata.labels[TEMPLATE_HASH_LABEL] === templateHash;
  const surplus = living.filter((pod) => isCurrent(pod) && !wanted.includes(pod.metadata.name));
  const old = living.filter((pod) => !isCurrent(pod)).sort((a, b) => Number(isReady(a)) - Number(isReady(b)));
  const readyNow = living.filter((pod) => isCurrent(pod) && wanted.includes(pod.metadata.name) && isReady(pod)).length;
  const replaced = Math.max(0, old.length - Math.max(0, replicas - readyNow));
  return { create, remove: [...surplus, ...old.slice(0, replaced)] };
}

/** Of the template and the commands that its images stand for: another one means other pods. */
export function templateHashOf(deployment: Deployment, images: Images): string {
  const { template } = deployment.spec;
  const commands = template.spec.containers.map((one) => one.command ?? images.get(one.image ?? "") ?? []);
  return letters(canonicalJson([template, commands]), 10);
}

/** The order of keys says nothing, and may change when a file is edited. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

function suffixOf(replicaSet: string, position: number): string {
  return letters(`${replicaSet}/${position}`, 5);
}

/** `count` letters of ALPHABET that follow from `text`. */
export function letters(text: string, count: number): string {
  const digest = createHash("sha256").update(text).digest();
  return Array.from(digest.subarray(0, count), (byte) => ALPHABET[byte % ALPHABET.length]).join("");
}

/** A UUID that follows from `text`: version 8, RFC 9562 §5.8. */
export function uuidOf(text: string): string {
  const bytes = createHash("sha256").update(text).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

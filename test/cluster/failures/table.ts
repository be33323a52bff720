/** What of the mesh, or under it, is killed. */
export const PARTS = ["pod", "ztunnel", "control plane", "node agent", "API server", "node"] as const;
/** What users look at meanwhile. */
export const ASPECTS = ["old connections", "new connections", "new pod", "policy change"] as const;

export type Part = (typeof PARTS)[number];
export type Aspect = (typeof ASPECTS)[number];

/**
 * What has to happen when a part is killed and stays away for a while. The suite 80 shows every cell on a real cluster;
 * docs/failures.md has the same table for people.
 */
export const EXPECTED: Readonly<Record<Part, Readonly<Record<Aspect, string>>>> = {
  pod: {
    "old connections": "its own end at once; those of other pods go on",
    "new connections": "refused until the pod is back, then served; never in plaintext",
    "new pod": "its successor starts captured",
    "policy change": "binds its successor from the first moment",
  },
  ztunnel: {
    "old connections": "those that it carried are cut at once; those of other nodes go on",
    "new connections": "refused until it is back, some two seconds after a crash; never in plaintext",
    "new pod": "waits, then starts captured",
    "policy change": "in force on its node before it serves again; at once on other nodes",
  },
  "control plane": {
    "old connections": "go on",
    "new connections": "go on",
    "new pod": "starts captured; nothing from or to it is let through until the control plane is back",
    "policy change": "what is in force stays; the change takes effect when the control plane is back",
  },
  "node agent": {
    "old connections": "go on",
    "new connections": "go on",
    "new pod": "waits, then starts captured; one outside of the mesh starts",
    "policy change": "takes effect at once",
  },
  "API server": {
    "old connections": "go on",
    "new connections": "go on",
    "new pod": "a container that restarts goes on captured; a pod whose sandbox is made anew starts captured",
    "policy change": "what is in force stays; a change made afterwards takes effect",
  },
  node: {
    "old connections": "to its pods: cut within 20 seconds; all others go on",
    "new connections": "reach pods of other nodes; its own are served again after its start; never in plaintext",
    "new pod": "starts captured on another node",
    "policy change": "takes effect at once on other nodes, and on this one before its pods serve again",
  },
};

/**
 * Which pods belong into the mesh. Whoever captures pods and whoever signs their certificates must not disagree on it:
 * both take it from here, with the same settings.
 */
export * from "./enrolment/decision.ts";
export * from "./enrolment/selector.ts";

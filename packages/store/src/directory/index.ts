export * from "./directory-store.ts";
export { formatProblem, type Problem } from "./yaml-documents.ts";

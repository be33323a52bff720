export * from "./directory-store.ts";
export type { Declared, ImportResult, TogetherCheck } from "./importer.ts";
export { type DocumentCheck, formatProblem, type Path, type Problem, type Report } from "./yaml-documents.ts";

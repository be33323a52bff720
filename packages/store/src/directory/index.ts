export * from "./directory-store.ts";
export type { Declared, ImportResult, TogetherCheck } from "./importer.ts";
export {
  type DocumentCheck,
  type FileContent,
  formatProblem,
  type Path,
  type Problem,
  readDocuments,
  type Report,
} from "./yaml-documents.ts";

export * from "./pages.ts";
export * from "./profiler.ts";

export * from "./native-buffer.ts";

/** Where a follower keeps its place: anything with `load` and `save`. */

import { open, readFile, rename } from "node:fs/promises";

/** A file that holds the cursor of one follower with one filter, replaced whole. */
export class FileCursorStore {
  constructor(path) {
    this.path = path;
  }

  /** The cursor saved last; empty when there is no file. */
  async load() {
    try {
      return (await readFile(this.path, "ascii")).trim();
    } catch (error) {
      if (error.code === "ENOENT") return "";
      throw error;
    }
  }

  async save(cursor) {
    const file = await open(`${this.path}.new`, "w");
    try {
      await file.writeFile(`${cursor}\n`);
      // Without it a power cut may leave an empty file under the final name.
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${this.path}.new`, this.path);
  }
}

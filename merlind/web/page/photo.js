/* Gets a photo ready to be sent: small, upright, and without place, date and camera. */
"use strict";

const LONGEST_SIDE = 1600; // pixels
const PREVIEW_SIDE = 480;
const THUMBNAIL_SIDE = 128;

/** What photos begin with, as docs/contract.md, "Names and photos", has it. */
const BEGINNINGS = [/^\xff\xd8\xff/, /^\x89PNG/, /^RIFF....WEBP/s, /^GIF8/, /^....ftyp/s, /^BM/, /^II[*+]\0/, /^MM\0[*+]/];

class BadPhoto extends Error {
  /** A photo that can't be sent; `code` and `values` choose the text that says why. */
  constructor(code, values = {}) {
    super(code);
    this.code = code;
    this.values = values;
  }
}

/**
 * Return what is sent of a photo and what is shown of it: {blob, asIs, preview, thumbnail}.
 *
 * asIs: the browser can't open it, so that its metadata are still in it. Raises BadPhoto.
 */
async function prepare(file) {
  const bytes = new Uint8Array(await read(file));
  const start = String.fromCharCode(...bytes.subarray(0, 16));
  if (!BEGINNINGS.some((beginning) => beginning.test(start))) throw new BadPhoto("not_an_image");

  const image = await decode(file);
  try {
    const blob = (await strip(bytes, image)) ?? (await redraw(image));
    const checked = blob ?? file;
    if (checked.size > FACTS.max_photo_bytes) {
      throw new BadPhoto("too_large_by", { size: formatSize(checked.size), max_photo: formatSize(FACTS.max_photo_bytes) });
    }
    return {
      blob: checked,
      asIs: blob === null,
      preview: image && canvasIsTrue() ? draw(image, PREVIEW_SIDE).toDataURL("image/jpeg", 0.8) : null,
      thumbnail: image && canvasIsTrue() ? draw(image, THUMBNAIL_SIDE).toDataURL("image/jpeg", 0.7) : null,
    };
  } finally {
    image?.close();
  }
}

/** Return a file's bytes. Raises BadPhoto if it has gone, or isn't there yet: a cloud's, with the network away. */
async function read(file) {
  try {
    return await file.arrayBuffer();
  } catch {
    throw new BadPhoto("unreadable");
  }
}

/** Return the picture, upright; null if this browser can't open it. */
async function decode(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}

/** Return a JPEG without its metadata, and else as it was; null if it is none, too large or damaged. */
async function strip(bytes, image) {
  const drawable = image !== null && canvasIsTrue();
  if (drawable && Math.max(image.width, image.height) > LONGEST_SIDE) return null;
  const parts = withoutMetadata(bytes);
  if (parts === null) return null;
  const blob = new Blob(parts, { type: "image/jpeg" });
  return drawable && blob.size > FACTS.max_photo_bytes ? null : blob;
}

/** Return the picture as a new JPEG, as good as fits into the limit; null if this browser can't draw it. */
async function redraw(image) {
  if (image === null || !canvasIsTrue()) return null;
  const canvas = draw(image, LONGEST_SIDE);
  let blob = null;
  for (const quality of [0.9, 0.75, 0.5]) {
    blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
    if (blob === null || blob.size <= FACTS.max_photo_bytes) break;
  }
  return blob;
}

/** Return a canvas with the picture on white, its longer side at most `side` pixels. */
function draw(image, side) {
  const scale = Math.min(1, side / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** Whether what is drawn can be read back: some browsers give noise instead, so that nobody can be told by it. */
function canvasIsTrue() {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = "#336699";
  context.fillRect(0, 0, 8, 8);
  const pixels = context.getImageData(0, 0, 8, 8).data;
  const drawn = [0x33, 0x66, 0x99, 0xff];
  return pixels.every((value, index) => Math.abs(value - drawn[index % 4]) < 8);
}

/* Takes what tells of place, date and camera out of a JPEG, without touching the picture. */
"use strict";

const SOI = 0xd8;
const EOI = 0xd9;
const SOS = 0xda;
const APP0 = 0xe0;
const APP1 = 0xe1;
const APP2 = 0xe2;
const APP14 = 0xee;
const COMMENT = 0xfe;

/**
 * Return the bytes of a JPEG without its metadata, as a list of parts; or null if it isn't built as a JPEG is.
 *
 * What stays is what a decoder needs: the picture, JFIF's and Adobe's word on its colours, the colour profile, and
 * the orientation, in an Exif segment that holds nothing else. What follows the end of the picture goes, too: phones
 * put further pictures and films there.
 */
function withoutMetadata(bytes) {
  if (bytes[0] !== 0xff || bytes[1] !== SOI) return null;
  const kept = [];
  let orientation = 1;
  let at = 2;
  for (;;) {
    if (bytes[at] !== 0xff) return null;
    while (bytes[at + 1] === 0xff) at++; // fill bytes
    const marker = bytes[at + 1];
    if (marker === EOI) {
      kept.push(bytes.subarray(at, at + 2));
      return [Uint8Array.of(0xff, SOI), ...exifOf(orientation), ...kept];
    }
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    if (!(marker >= 0xc0 && end >= at + 4 && end <= bytes.length)) return null;
    const content = bytes.subarray(at + 4, end);
    if (marker === APP1 && startsWith(content, "Exif\0\0")) orientation = orientationIn(content.subarray(6)) ?? orientation;
    if (isNeeded(marker, content)) kept.push(bytes.subarray(at, end));
    at = end;
    if (marker === SOS) {
      const next = endOfScan(bytes, at);
      if (next < 0) return null;
      kept.push(bytes.subarray(at, next));
      at = next;
    }
  }
}

function isNeeded(marker, content) {
  if (marker === APP0) return startsWith(content, "JFIF\0") && content.length === 14; // longer: it holds a thumbnail
  if (marker === APP2) return startsWith(content, "ICC_PROFILE\0");
  if (marker === APP14) return startsWith(content, "Adobe");
  return !(marker >= APP0 && marker <= 0xef) && marker !== COMMENT;
}

function startsWith(bytes, word) {
  return [...word].every((letter, index) => bytes[index] === letter.charCodeAt(0));
}

/** Return where the marker behind a scan's compressed data is, or -1. FF 00 is data, FF D0 to D7 restart the scan. */
function endOfScan(bytes, at) {
  for (;;) {
    at = bytes.indexOf(0xff, at);
    if (at < 0 || at + 1 >= bytes.length) return -1;
    const next = bytes[at + 1];
    if (next !== 0 && next !== 0xff && !(next >= 0xd0 && next <= 0xd7)) return at;
    at += next === 0xff ? 1 : 2;
  }
}

/** Return the orientation (2 to 8) in the first directory of a TIFF structure, which Exif is; null without one. */
function orientationIn(tiff) {
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  try {
    const little = view.getUint16(0) === 0x4949;
    const directory = view.getUint32(4, little);
    const count = view.getUint16(directory, little);
    for (let entry = directory + 2; entry < directory + 2 + count * 12; entry += 12) {
      if (view.getUint16(entry, little) !== 0x0112) continue;
      const orientation = view.getUint16(entry + 8, little);
      return orientation >= 2 && orientation <= 8 ? orientation : null;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // cut short: then it has no orientation
  }
  return null;
}

/** Return an Exif segment with the orientation alone; none if the picture stands upright. */
function exifOf(orientation) {
  if (orientation === 1) return [];
  const tiff = [0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
  return [Uint8Array.of(0xff, APP1, 0, 34, 0x45, 0x78, 0x69, 0x66, 0, 0, ...tiff)];
}

// Pixels as the network was trained on them: the whole picture squeezed into a square, bilinear with antialiasing, as
// celeba_nb.images.resize (PyTorch) does it.

// For each pixel of the result: the first pixel that it is made of, and the weights of those from there on.
function windows(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5)), end = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => Math.max(0, 1 - Math.abs(first + k + 0.5 - centre) / reach));
    const sum = weights.reduce((a, b) => a + b);
    return [first, weights.map(weight => weight / sum)];
  });
}

// From ImageData (red, green, blue, alpha) to three planes of size × size bytes.
export function squeeze({ data, width, height }, size) {
  const across = windows(width, size), down = windows(height, size);
  const rows = new Uint8ClampedArray(3 * height * size), planes = new Uint8ClampedArray(3 * size * size);
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < height; y++) {
      across.forEach(([first, weights], x) => {
        rows[(c * height + y) * size + x] = weights.reduce((sum, w, k) => sum + w * data[4 * (y * width + first + k) + c], 0);
      });
    }
    down.forEach(([first, weights], y) => {
      for (let x = 0; x < size; x++) {
        planes[(c * size + y) * size + x] = weights.reduce((sum, w, k) => sum + w * rows[(c * height + first + k) * size + x], 0);
      }
    });
  }
  return new Uint8Array(planes.buffer);
}

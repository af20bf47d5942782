// Pixels as the network was trained on them: the whole picture squeezed into a square, bilinear with antialiasing, to the same
// bytes as celeba_nb.images.resize. PyTorch computes it in whole numbers, across and then down, rounding each time.

// For each pixel of the result: the first pixel that it is made of, and the weights of those from there on, as whole numbers.
function windows(from, to) {
  const scale = from / to, reach = Math.max(scale, 1);
  const shares = Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5)), end = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => Math.max(0, 1 - Math.abs(first + k + 0.5 - centre) / reach));
    const sum = weights.reduce((a, b) => a + b);
    return [first, weights.map(weight => weight / sum)];
  });
  const most = Math.max(...shares.flatMap(([, weights]) => weights));
  let bits = 0;  // as many as a weight of 16 bits, one of them its sign, has room for
  while (bits < 22 && Math.floor(0.5 + most * 2 ** (bits + 1)) < 2 ** 15) bits++;
  return { bits, places: shares.map(([first, weights]) => [first, weights.map(weight => Math.floor(0.5 + weight * 2 ** bits))]) };
}

// From ImageData (red, green, blue, alpha) to three planes of size × size bytes.
export function squeeze({ data, width, height }, size) {
  const across = windows(width, size), down = windows(height, size);
  const rows = new Uint8ClampedArray(3 * height * size), planes = new Uint8ClampedArray(3 * size * size);
  const add = (weights, bits, pixel) => weights.reduce((sum, w, k) => sum + w * pixel(k), 2 ** (bits - 1)) >> bits;
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < height; y++) {
      across.places.forEach(([first, weights], x) => {
        rows[(c * height + y) * size + x] = add(weights, across.bits, k => data[4 * (y * width + first + k) + c]);
      });
    }
    down.places.forEach(([first, weights], y) => {
      for (let x = 0; x < size; x++) {
        planes[(c * size + y) * size + x] = add(weights, down.bits, k => rows[(c * height + first + k) * size + x]);
      }
    });
  }
  return new Uint8Array(planes.buffer);
}

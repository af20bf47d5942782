// The network, run by onnxruntime-web in WebAssembly with one thread: a plain file server allows no more.
const here = name => new URL(name, import.meta.url).href;

// A function that takes three planes of size × size bytes and promises forty probabilities.
export async function loadNetwork(size) {
  const ort = await import(here("onnxruntime/ort.js"));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: here("onnxruntime/ort.wasm") };
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(here("network.onnx"), { executionProviders: ["wasm"] });
  return async planes => {
    const { probabilities } = await session.run({ pixels: new ort.Tensor("uint8", planes, [1, 3, size, size]) });
    return probabilities.data;
  };
}

// Latency of .tflite files in WebAssembly: LiteRT.js under Node, one thread, files interleaved.
//
//     npm install
//     node benchmark.mjs [--seconds=2] [--rounds=10] [--json] dense.tflite sparse.tflite ...
//
// Each round runs every file for seconds / rounds; the median of a file is that of its rounds'
// medians, and its ratio that of the rounds' ratios to the first file in the same round.

import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {cpus} from 'node:os';
import {basename, dirname, join} from 'node:path';
import {parseArgs} from 'node:util';
import vm from 'node:vm';

const require = createRequire(import.meta.url);
const WASM = join(dirname(require.resolve('@litertjs/core/package.json')), 'wasm');

/** LiteRT.js loads its module by a script tag or importScripts; here it gets the latter. */
async function loadRuntime() {
  globalThis.self = globalThis;
  // Its notes on every load would bury the table.
  globalThis.Module = {print: () => {}, printErr: () => {}};
  globalThis.require = require;
  globalThis.importScripts = (path) => {
    globalThis.__filename = path;
    globalThis.__dirname = dirname(path);
    vm.runInThisContext(readFileSync(path, 'utf8'), {filename: path});
  };
  console.warn = () => {};  // that Node has no WebGPU
  const litert = await import('@litertjs/core');
  await litert.loadLiteRt(WASM + '/');
  return litert;
}

/** A typed array of one input: normal for floats, zeros for whole numbers. */
function randomInput({dtype, shape}) {
  if (shape.some((n) => n < 1)) {
    throw new Error(`an input of shape ${shape}; expected fixed sizes: export with batch_size=1`);
  }
  const size = shape.reduce((product, n) => product * n, 1);
  const types = {float32: Float32Array, int32: Int32Array, int8: Int8Array, uint8: Uint8Array};
  if (!types[dtype]) throw new Error(`an input of ${dtype}; expected ${Object.keys(types)}`);
  const data = new types[dtype](size);
  if (dtype === 'float32') {
    for (let i = 0; i < size; i++) {
      data[i] = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    }
  }
  return {data, shape};
}

async function loadModel(litert, path) {
  try {
    return await compiled(litert, path);
  } catch (error) {
    throw new Error(`${path}: ${error.message ?? error}`);
  }
}

async function compiled(litert, path) {
  const model = await litert.loadAndCompile(new Uint8Array(readFileSync(path)), {
    accelerator: 'wasm',
    cpuOptions: {numThreads: 1},
  });
  const inputs = model.getInputDetails().map((details) => {
    const {data, shape} = randomInput({dtype: details.dtype, shape: [...details.shape]});
    return new litert.Tensor(data, shape);
  });
  return {path, model, inputs, medians: []};
}

async function runOnce({model, inputs}) {
  const start = performance.now();
  const outputs = await model.run(inputs);
  const milliseconds = performance.now() - start;
  outputs.forEach((output) => output.delete());
  return milliseconds;
}

async function runFor(file, milliseconds) {
  const times = [];
  const end = performance.now() + milliseconds;
  do times.push(await runOnce(file));
  while (performance.now() < end);
  return times;
}

function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return low + (high - low) * (place - Math.floor(place));
}

const median = (values) => quantile(values, 0.5);

function number(name, text) {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`--${name} received: '${text}'; expected a number above 0`);
  return value;
}

async function main() {
  const {values, positionals} = parseArgs({
    allowPositionals: true,
    options: {
      seconds: {type: 'string', default: '2'},
      rounds: {type: 'string', default: '10'},
      json: {type: 'boolean', default: false},
    },
  });
  if (!positionals.length) throw new Error('no file given; expected model.tflite [other.tflite ...]');
  const seconds = number('seconds', values.seconds);
  const rounds = Math.ceil(number('rounds', values.rounds));
  const litert = await loadRuntime();
  const files = [];
  for (const path of positionals) files.push(await loadModel(litert, path));
  for (const file of files) await runFor(file, 200);
  for (let round = 0; round < rounds; round++) {
    for (const file of files) {
      file.medians.push(median(await runFor(file, (1000 * seconds) / rounds)));
    }
  }
  const rows = files.map(({path, medians}) => {
    const ratios = medians.map((value, round) => files[0].medians[round] / value);
    return {
      path,
      median_ms: median(medians),
      low_ms: quantile(medians, 0.25),
      high_ms: quantile(medians, 0.75),
      times_faster: median(ratios),
    };
  });
  const {version} = JSON.parse(readFileSync(join(WASM, '..', 'package.json'), 'utf8'));
  const machine = `${cpus()[0].model}, Node ${process.version}, LiteRT.js ${version}, 1 thread`;
  if (values.json) {
    console.log(JSON.stringify({machine, seconds, rounds, files: rows}, null, 2));
    return;
  }
  console.log(`${machine}; ${rounds} rounds, ${seconds} s a file`);
  for (const row of rows) {
    const [low, high] = [row.low_ms, row.high_ms].map((value) => value.toFixed(3));
    console.log(
      `${row.median_ms.toFixed(3).padStart(10)} ms  (half of the rounds ${low} to ${high})  ` +
        `${row.times_faster.toFixed(2).padStart(6)} x  ${basename(row.path)}`,
    );
  }
}

main().catch((error) => {
  console.error(`benchmark.mjs: error: ${error.message ?? error}`);
  process.exitCode = 1;
});

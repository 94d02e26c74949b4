// Sends a file with tus-js-client in one of its modes for the IETF draft.
// node client.cjs MODULE ENDPOINT FILE PROTOCOL CHUNK (Infinity for one) MODE (plain, creation, resume)
const fs = require("fs");
const [, , path, endpoint, file, protocol, chunk, mode] = process.argv;
const tus = require(path);

// Given a file stream in chunks, tus-js-client 4.3.1 never says Upload-Complete: ?1 (its
// FileSource knows the end only of a file sent in one); given a buffer it does.
const whole = Number(chunk) === Infinity;
const input = () => (whole ? fs.createReadStream(file) : fs.readFileSync(file));

function send(options, onChunk) {
  return new Promise((resolve, reject) => {
    const upload = new tus.Upload(input(), {
      endpoint,
      protocol,
      chunkSize: Number(chunk),
      uploadSize: fs.statSync(file).size,
      uploadDataDuringCreation: mode === "creation",
      retryDelays: null,
      onError: reject,
      onSuccess: () => resolve(upload),
      onChunkComplete: () => onChunk && onChunk(upload, resolve),
      ...options,
    });
    upload.start();
  });
}

async function main() {
  if (mode !== "resume") {
    const upload = await send({});
    console.log(JSON.stringify({ url: upload.url }));
    return;
  }
  const cut = await send({}, (upload, done) => upload.abort(false).then(() => done(upload)));
  const again = await send({ endpoint: null, uploadUrl: cut.url });
  console.log(JSON.stringify({ url: again.url }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

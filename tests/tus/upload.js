// One upload with tus-js-client: node upload.js '{"endpoint": ..., "file": ..., ...}'
// Prints the URL when it is known, and at the end a JSON object: {url} or {error} or {aborted}.
const { createRequire } = require('node:module')
const fs = require('node:fs')
const path = require('node:path')

const asked = JSON.parse(process.argv[2])
const tus = createRequire(path.join(asked.modules, 'x.js'))('tus-js-client')

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const { PassThrough } = require('node:stream')
const source = asked.stream
  ? fs.createReadStream(asked.file).pipe(new PassThrough())
  : fs.createReadStream(asked.file)

const upload = new tus.Upload(source, {
  endpoint: asked.endpoint,
  uploadUrl: asked.uploadUrl || null,
  chunkSize: asked.chunkSize || Infinity,
  parallelUploads: asked.parallel || 1,
  uploadLengthDeferred: Boolean(asked.stream),
  uploadDataDuringCreation: Boolean(asked.early),
  overridePatchMethod: Boolean(asked.override),
  metadata: asked.metadata || {},
  retryDelays: asked.retryDelays || [],
  onUploadUrlAvailable: () => say({ available: upload.url }),
  onError: (error) => {
    say({ error: String(error) })
    process.exit(1)
  },
  onSuccess: () => say({ url: upload.url }),
  onProgress: (sent) => {
    if (asked.abortAt && sent >= asked.abortAt) {
      upload.abort().then(() => {
        say({ aborted: upload.url })
        process.exit(0)
      })
    }
  },
})

if (asked.terminate) {
  tus.Upload.terminate(asked.uploadUrl, {}).then(
    () => say({ terminated: asked.uploadUrl }),
    (error) => say({ error: String(error) }),
  )
} else {
  upload.start()
}

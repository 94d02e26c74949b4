// What the page of another origin can do. Each function says what its script was allowed to see.

/** Bytes that are no text, the same for the same size. */
function bytes(size) {
  const made = new Uint8Array(size)
  for (let i = 0; i < size; i++) made[i] = (i * 31 + (i >> 8) * 7) & 255
  return made
}

/** One fetch. `init.size`: a body of so many bytes; `init.form`: a form with a file of so many. */
async function ask(url, init = {}) {
  if (init.size !== undefined) init.body = bytes(init.size)
  if (init.form !== undefined) {
    init.body = new FormData()
    init.body.append('title', 'Grüße')
    init.body.append('file', new Blob([bytes(init.form)]), init.name || 'form.bin')
  }
  try {
    const answer = await fetch(url, init)
    const body = await answer.text()
    return { status: answer.status, body, fields: [...answer.headers] }
  } catch (error) {
    return { hidden: String(error) }
  }
}

/** A whole upload by tus-js-client: its URL, or its error; and each answer as it was read. */
function sendByTus(options, size, credentials) {
  const answers = []
  return new Promise((resolve) => {
    const upload = new tus.Upload(new Blob([bytes(size)]), {
      retryDelays: null,
      onBeforeRequest: (request) => {
        request.getUnderlyingObject().withCredentials = credentials
      },
      onAfterResponse: (request, response) => {
        answers.push([request.getMethod(), response.getStatus(), response.getBody()])
      },
      ...options,
      onError: (error) => resolve({ error: String(error), answers }),
      onSuccess: () => resolve({ url: upload.url, answers }),
    })
    upload.start()
  })
}

/** A file by Uppy, with its Tus or XHRUpload plugin. */
async function sendByUppy(plugin, options, size) {
  const uppy = new Uppy.Uppy({ autoProceed: false }).use(Uppy[plugin], options)
  uppy.addFile({ name: `${plugin}.bin`, type: 'application/x-thing', data: new Blob([bytes(size)]) })
  const { successful, failed } = await uppy.upload()
  return {
    stored: successful.map((file) => file.uploadURL),
    failed: failed.map((file) => String(file.error)),
  }
}

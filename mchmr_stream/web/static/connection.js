// The page's WebSocket: what comes is taken apart here, and a lost connection is opened again.

const FIRST_PAUSE_MS = 300, LONGEST_PAUSE_MS = 2000;

// A binary message: the header's length as uint32, the header as JSON, and what follows it (mchmr_stream/web/page_pictures.py).
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return [header, 4 + length];
}

export class Connection {
  // handlers: opened(), lost(), and one for each kind of message: hello(m), status(m), refused(m), body(header, faces),
  // scene(header, points, picture), which may return a promise: the next scene comes when it is fulfilled.
  constructor(handlers) {
    this.handlers = handlers;
    this.pauseMs = FIRST_PAUSE_MS;
    this.body = null;
    this.open();
  }

  open() {
    const url = new URL("watch", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = this.socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.pauseMs = FIRST_PAUSE_MS;
      this.handlers.opened();
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.heard(JSON.parse(data)) : this.received(socket, data));
    socket.onclose = () => {
      this.handlers.lost();
      setTimeout(() => this.open(), this.pauseMs);
      this.pauseMs = Math.min(2 * this.pauseMs, LONGEST_PAUSE_MS);
    };
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  heard(message) {
    this.handlers[message.kind](message);
  }

  async received(socket, buffer) {
    const [header, start] = unpack(buffer);
    if (header.kind === "body") {
      this.body = header;
      this.handlers.body(header, new Uint32Array(buffer, start));
      return;
    }
    const numbers = header.people.length * (this.body.parents.length + this.body.vertices) * 3;
    const points = new Int16Array(buffer, start, numbers);
    const picture = new Blob([new Uint8Array(buffer, start + 2 * numbers)], { type: "image/jpeg" });
    try {
      await this.handlers.scene(header, points, picture);
    } finally {
      if (socket === this.socket) this.send({ kind: "shown" });
    }
  }
}

// Bodies in an orbitable scene, drawn only when something changed. Camera axes (x right, y down, z forward) become three.js's
// (x right, y up, z backward) by turning half around x.

import * as THREE from "./vendor/three.min.js";

const JOINTS = 24, HEAD = 15;
const FIELD_DEG = 36, FOLLOWING_S = 0.5, TURN_RAD = 0.5, RAISE_RAD = 0.22;
const FLOOR_KEPT = 240, GRID_M = 14;
const colour = (name) => new THREE.Color(getComputedStyle(document.documentElement).getPropertyValue(name).trim());

// Whether the browser draws without a graphics card: then soft edges and shadows would take most of a core.
function drawsInSoftware() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const told = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = told ? gl.getParameter(told.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|software|basic render/i.test(name);
}

// A floor of squares of 1 m, in pieces: long lines that reach behind the eye are lost by some renderers.
function squares() {
  const ends = [];
  for (let i = -GRID_M; i <= GRID_M; i++) {
    for (let j = -GRID_M; j < GRID_M; j++) ends.push(i, 0, j, i, 0, j + 1, j, 0, i, j + 1, 0, i);
  }
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(ends), 3));
  return geometry;
}

export class Stage {
  constructor(place) {
    this.place = place;
    this.people = new Map();
    this.mode = "body";
    this.auto = true;
    this.lowest = [];
    this.floor = null;
    this.plain = drawsInSoftware();
    this.renderer = new THREE.WebGLRenderer({ antialias: !this.plain });
    this.renderer.setPixelRatio(this.plain ? 1 : Math.min(devicePixelRatio, 2));
    this.renderer.shadowMap.enabled = !this.plain;
    this.renderer.shadowMap.type = THREE.PCFShadowMap;
    const canvas = this.renderer.domElement;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "The bodies in 3D; drag to turn, wheel to come closer, arrow keys to move, with Shift to turn");
    place.append(canvas);
    this.tags = document.createElement("div");
    place.append(this.tags);

    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(FIELD_DEG, 1, 0.05, 200);
    this.camera.position.set(1.2, 0.9, 0.6);
    this.controls = new THREE.OrbitControls(this.camera, canvas);
    this.controls.target.set(0, 0, -3);
    this.controls.maxDistance = 60;
    this.controls.listenToKeyEvents(canvas);
    this.controls.addEventListener("start", () => { this.auto = false; });
    this.controls.addEventListener("change", () => this.draw());
    canvas.addEventListener("keydown", (event) => { if (event.key.startsWith("Arrow")) this.auto = false; });

    this.scene.add(new THREE.HemisphereLight(0xffffff, 0x606a78, 1.6));
    this.lamp = new THREE.DirectionalLight(0xffffff, 2.1);
    this.lamp.castShadow = true;
    this.lamp.shadow.mapSize.set(1536, 1536);
    this.lamp.shadow.radius = 3;
    Object.assign(this.lamp.shadow.camera, { left: -6, right: 6, top: 6, bottom: -6, near: 0.5, far: 20 });
    this.scene.add(this.lamp, this.lamp.target);
    this.ground = new THREE.Group();
    this.shade = new THREE.Mesh(new THREE.PlaneGeometry(60, 60), new THREE.ShadowMaterial({ opacity: 0.32, depthWrite: false }));
    this.shade.renderOrder = -1;
    this.shade.rotation.x = -Math.PI / 2;
    this.shade.receiveShadow = true;
    this.ground.add(this.shade);
    this.ground.visible = false;
    this.scene.add(this.ground);
    this.filmed = new THREE.LineSegments(new THREE.BufferGeometry(), new THREE.LineBasicMaterial());
    this.scene.add(this.filmed);
    this.recolour();

    new ResizeObserver(() => this.resize()).observe(place);
    this.resize();
  }

  recolour() {
    const back = colour("--stage");
    this.scene.background = back;
    this.scene.fog = new THREE.Fog(back);
    this.grid?.geometry.dispose();
    this.grid?.material.dispose();
    if (this.grid) this.ground.remove(this.grid);
    this.grid = new THREE.LineSegments(squares(), new THREE.LineBasicMaterial({ color: colour("--grid") }));
    this.ground.add(this.grid);
    this.filmed.material.color = colour("--accent");
    this.draw();
  }

  resize() {
    const width = Math.max(1, this.place.clientWidth), height = Math.max(1, this.place.clientHeight);
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  setBody(header, faces) {
    this.clear();
    this.vertices = header.vertices;
    this.parents = header.parents;
    this.faces = new THREE.BufferAttribute(faces, 1);
  }

  setMode(mode) {
    this.mode = mode;
    for (const person of this.people.values()) this.dress(person);
    this.draw();
  }

  reset() {
    this.auto = true;
    this.framed = false;
    this.camera.fov = FIELD_DEG;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  // As the filming camera sees it.
  lookFromCamera() {
    if (!this.film) return;
    this.auto = false;
    const { width, height, camera } = this.film;
    const across = width / 2 / camera.fx, up = height / 2 / camera.fy;
    this.camera.fov = (2 * 180 / Math.PI) * Math.atan(Math.max(up, across / this.camera.aspect));
    this.camera.position.set(0, 0, 0);
    const { middle } = this.extent();
    this.controls.target.set(0, 0, Math.min(-1, middle.z));
    this.camera.updateProjectionMatrix();
    this.controls.update();
    this.draw();
  }

  clear() {
    for (const id of [...this.people.keys()]) this.leave(id);
    this.lowest = [];
    this.floor = null;
    this.ground.visible = false;
    this.draw();
  }

  // points: int16, joints and vertices of everyone around the pelvis, in header.unit_m
  show(header, points) {
    this.film = header;
    this.setFrustum(header);
    const each = (JOINTS + this.vertices) * 3;
    const here = new Set();
    header.people.forEach((told, row) => {
      here.add(told.id);
      const person = this.people.get(told.id) ?? this.join(told);
      this.pose(person, told, points.subarray(row * each, (row + 1) * each), header.unit_m);
    });
    for (const id of this.people.keys()) if (!here.has(id)) this.leave(id);
    this.settleFloor();
    this.draw();
  }

  join(told) {
    const tint = new THREE.Color().setRGB(...told.colour, THREE.SRGBColorSpace);
    const geometry = new THREE.BufferGeometry();
    geometry.setIndex(this.faces);
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(this.vertices * 3), 3));
    geometry.setAttribute("normal", new THREE.BufferAttribute(new Float32Array(this.vertices * 3), 3));
    const surface = new THREE.Mesh(geometry, new THREE.MeshStandardMaterial({ color: tint, roughness: 0.62, metalness: 0 }));
    surface.castShadow = true;
    surface.frustumCulled = false;
    const solid = () => new THREE.MeshStandardMaterial({ color: tint, roughness: 0.5 });
    const bones = new THREE.InstancedMesh(new THREE.CylinderGeometry(0.014, 0.022, 1, 10), solid(), JOINTS - 1);
    const joints = new THREE.InstancedMesh(new THREE.SphereGeometry(0.03, 14, 10), solid(), JOINTS);
    for (const part of [bones, joints]) {
      part.frustumCulled = false;
      part.castShadow = true;
    }
    const whole = new THREE.Group();
    whole.add(surface, bones, joints);
    this.scene.add(whole);
    const tag = document.createElement("span");
    tag.className = "tag";
    tag.textContent = told.id;
    tag.style.background = `#${tint.getHexString()}`;
    this.tags.append(tag);
    const person = { whole, surface, bones, joints, tag, head: new THREE.Vector3(), low: 0 };
    this.people.set(told.id, person);
    this.dress(person);
    return person;
  }

  leave(id) {
    const { whole, surface, bones, joints, tag } = this.people.get(id);
    this.scene.remove(whole);
    surface.geometry.setIndex(null); // shared
    for (const part of [surface, bones, joints]) {
      part.geometry.dispose();
      part.material.dispose();
    }
    bones.dispose();
    joints.dispose();
    tag.remove();
    this.people.delete(id);
  }

  dress({ surface, bones, joints }) {
    surface.visible = this.mode !== "bones";
    bones.visible = joints.visible = this.mode !== "body";
    surface.material.transparent = this.mode === "both";
    surface.material.opacity = this.mode === "both" ? 0.4 : 1;
    surface.material.depthWrite = this.mode !== "both";
    surface.material.needsUpdate = true;
  }

  pose(person, told, points, unit) {
    const [x, y, z] = told.pelvis_m;
    person.whole.position.set(x, -y, -z);
    const at = person.surface.geometry.getAttribute("position");
    const flat = at.array;
    let low = Infinity;
    for (let i = 0, from = JOINTS * 3; i < flat.length; i += 3, from += 3) {
      flat[i] = points[from] * unit;
      const height = flat[i + 1] = -points[from + 1] * unit;
      flat[i + 2] = -points[from + 2] * unit;
      if (height < low) low = height;
    }
    at.needsUpdate = true;
    person.surface.geometry.computeVertexNormals();
    person.low = low - y;

    const joint = (i) => new THREE.Vector3(points[3 * i] * unit, -points[3 * i + 1] * unit, -points[3 * i + 2] * unit);
    const places = Array.from({ length: JOINTS }, (_, i) => joint(i));
    const matrix = new THREE.Matrix4(), turn = new THREE.Quaternion(), up = new THREE.Vector3(0, 1, 0), size = new THREE.Vector3(1, 1, 1);
    places.forEach((place, i) => person.joints.setMatrixAt(i, matrix.makeTranslation(place.x, place.y, place.z)));
    for (let i = 1; i < JOINTS; i++) {
      const start = places[this.parents[i]], along = places[i].clone().sub(start), length = Math.max(along.length(), 1e-4);
      turn.setFromUnitVectors(up, along.clone().divideScalar(length));
      matrix.compose(start.clone().addScaledVector(along, 0.5), turn, size.set(1, length, 1));
      person.bones.setMatrixAt(i - 1, matrix);
    }
    person.joints.instanceMatrix.needsUpdate = person.bones.instanceMatrix.needsUpdate = true;
    person.head.copy(places[HEAD]).add(person.whole.position);
    person.head.y += 0.24;
  }

  // The camera is taken to be level; the floor is where feet are most of the time.
  settleFloor() {
    for (const person of this.people.values()) this.lowest.push(person.low);
    if (!this.lowest.length) return;
    this.lowest.splice(0, this.lowest.length - FLOOR_KEPT);
    const sorted = this.lowest.slice().sort((a, b) => a - b), middle = sorted[sorted.length >> 1];
    this.floor = this.floor === null ? middle : this.floor + 0.15 * (middle - this.floor);
    const { middle: below } = this.extent();
    if (this.people.size) this.ground.position.set(Math.round(below.x), this.floor, Math.round(below.z));
    this.ground.visible = true;
  }

  extent() {
    const places = [...this.people.values()].map((person) => person.whole.position);
    const middle = new THREE.Vector3();
    for (const place of places) middle.addScaledVector(place, 1 / places.length);
    const radius = 1.05 + Math.max(0, ...places.map((place) => place.distanceTo(middle)));
    return { middle, radius };
  }

  // Goes a part of the way to a view of everybody; at once when it is the first one. Returns whether there is more to go.
  approach(passedS) {
    if (!this.auto || !this.people.size) return false;
    const { middle, radius } = this.extent();
    const half = (this.camera.fov * Math.PI) / 360;
    const away = radius / Math.sin(Math.min(half, Math.atan(Math.tan(half) * this.camera.aspect)));
    const from = new THREE.Vector3(Math.sin(TURN_RAD) * Math.cos(RAISE_RAD), Math.sin(RAISE_RAD), Math.cos(TURN_RAD) * Math.cos(RAISE_RAD));
    const goal = middle.clone().addScaledVector(from, away);
    const share = this.framed ? 1 - Math.exp(-passedS / FOLLOWING_S) : 1;
    this.framed = true;
    this.controls.target.lerp(middle, share);
    this.camera.position.lerp(goal, share);
    this.controls.update();
    return this.camera.position.distanceTo(goal) > 0.005 * away;
  }

  setFrustum({ width, height, camera }) {
    const key = [width, height, camera.fx, camera.fy, camera.cx, camera.cy].join();
    if (key === this.frustum) return;
    this.frustum = key;
    const depth = 0.35;
    const corner = (x, y) => [((x - camera.cx) / camera.fx) * depth, -((y - camera.cy) / camera.fy) * depth, -depth];
    const corners = [corner(0, 0), corner(width, 0), corner(width, height), corner(0, height)];
    const lines = corners.flatMap((one, i) => [[0, 0, 0], one, one, corners[(i + 1) % 4]]);
    this.filmed.geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(lines.flat()), 3));
    this.filmed.frustumCulled = false;
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame((nowMs) => {
      const goesOn = this.approach(Math.min(0.5, (nowMs - (this.lastMs ?? nowMs)) / 1000));
      this.lastMs = nowMs;
      this.render();
      this.waiting = false;
      if (goesOn && !this.plain) this.draw();
    });
  }

  render() {
    const target = this.people.size ? this.extent().middle : this.controls.target;
    this.lamp.target.position.copy(target);
    this.lamp.position.set(target.x + 1.6, target.y + 4.5, target.z + 2.4);
    const away = this.camera.position.distanceTo(target);
    this.scene.fog.near = away + 2;
    this.scene.fog.far = away + 11;
    this.renderer.render(this.scene, this.camera);
    const width = this.place.clientWidth, height = this.place.clientHeight, at = new THREE.Vector3();
    for (const { head, tag } of this.people.values()) {
      at.copy(head).project(this.camera);
      tag.hidden = at.z > 1;
      tag.style.transform = `translate(${((at.x + 1) / 2) * width}px, ${((1 - at.y) / 2) * height}px) translate(-50%, -100%)`;
    }
  }
}

// Reads a .glb with three.js and with Khronos' validator: node gltf_reader.mjs FILE.glb TIME...
// Prints JSON: the validator's issues, and per time and person where the joints are, whether the person can be seen, and every 50th vertex.
import fs from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const folder = process.env.MCHMR_NODE_MODULES; // where `npm install three gltf-validator` was run
const load = (name) => import(pathToFileURL(`${folder}/node_modules/three/${name}`));
globalThis.self = globalThis;
globalThis.ProgressEvent ??= class {};
const validator = createRequire(pathToFileURL(`${folder}/`))("gltf-validator");
const THREE = await load("build/three.module.js");
const { GLTFLoader } = await load("examples/jsm/loaders/GLTFLoader.js");

const bytes = fs.readFileSync(process.argv[2]);
const report = await validator.validateBytes(new Uint8Array(bytes));
const content = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
const gltf = await new Promise((done, failed) => new GLTFLoader().parse(content, "", done, failed));
const mixer = new THREE.AnimationMixer(gltf.scene);
const clip = gltf.animations[0];
const action = mixer.clipAction(clip).setLoop(THREE.LoopOnce);
action.clampWhenFinished = true;
const times = process.argv.slice(3).map(Number).map((time) => {
  action.reset().play();
  mixer.setTime(time);
  gltf.scene.updateMatrixWorld(true);
  const people = {};
  gltf.scene.traverse((mesh) => {
    if (!mesh.isSkinnedMesh) return;
    mesh.skeleton.update();
    const bones = mesh.skeleton.bones;
    const vertices = [];
    for (let index = 0; index < mesh.geometry.attributes.position.count; index += 50)
      vertices.push(mesh.getVertexPosition(index, new THREE.Vector3()).applyMatrix4(mesh.matrixWorld).toArray());
    people[mesh.name] = {
      joints: bones.map((bone) => new THREE.Vector3().setFromMatrixPosition(bone.matrixWorld).toArray()),
      names: bones.map((bone) => bone.name),
      size: bones[0].parent.scale.x,
      vertices,
    };
  });
  return people;
});
const camera = gltf.cameras[0];
camera.updateMatrixWorld();
console.log(JSON.stringify({ issues: report.issues, duration: clip.duration, times, fov: camera.fov, aspect: camera.aspect }));

#!/usr/bin/env bash
# Writes mchmr_stream/web/static/vendor: the parts of three.js that the page uses, as one minified module, and uPlot as published.
# Needs node and npm. After a change of versions here, change THIRD_PARTY.md too.
set -euo pipefail
vendor="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/mchmr_stream/web/static/vendor"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
npm install --silent --prefix "$work" three@0.187.0 uplot@1.6.32 esbuild@0.28.2
cat > "$work/three.js" <<'END'
export {
  BufferAttribute, BufferGeometry, Color, CylinderGeometry, DirectionalLight, Fog, Group, HemisphereLight, InstancedMesh,
  LineBasicMaterial, LineSegments, Matrix4, Mesh, MeshStandardMaterial, PCFShadowMap, PerspectiveCamera, PlaneGeometry,
  Quaternion, Scene, ShadowMaterial, SphereGeometry, SRGBColorSpace, Vector3, WebGLRenderer,
} from "three";
export { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
END
(cd "$work" && npx esbuild three.js --bundle --minify --format=esm --legal-comments=inline --outfile=three.min.js)
mkdir -p "$vendor"
cp "$work/three.min.js" "$work/node_modules/uplot/dist/uPlot.iife.min.js" "$work/node_modules/uplot/dist/uPlot.min.css" "$vendor/"

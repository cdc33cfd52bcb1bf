"""The body model against smplx, by laws, and body files: good, foreign and hostile."""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from components import import_or_skip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from smpl_files import smpl_arrays
from torch import Tensor

from mchmr_stream.body import kinematics as numpy_kinematics
from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import PARENTS, BodyModel, forward_kinematics, rest_joints, rest_pelvis, skin
from mchmr_stream.errors import InputError

# Body, then jaw and eyes on the head, then five fingers of three joints on each wrist.
SMPLX_PARENTS = [*PARENTS[:22], 15, 15, 15]
for _finger in range(10):
    _first = len(SMPLX_PARENTS)
    SMPLX_PARENTS += [20 if _finger < 5 else 21, _first, _first + 1]


def random_rotations(rng: np.random.Generator, *shape: int) -> Tensor:
    count = int(np.prod(shape))
    return torch.tensor(Rotation.random(count, random_state=rng).as_matrix().reshape(*shape, 3, 3), dtype=torch.float32)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("free")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def assert_same_as_smplx(model: BodyModel, arrays: dict[str, Any], rng: np.random.Generator) -> None:
    smplx = import_or_skip("smplx")
    arrays = {key: array.astype(np.float32) if array.dtype.kind == "f" else array for key, array in arrays.items()}
    theirs = smplx.SMPL("", data_struct=smplx.utils.Struct(**arrays), create_transl=False, vertex_ids=defaultdict(int))
    rotations, betas, transl = random_rotations(rng, 5, 24), torch.randn(5, 10), torch.randn(5, 3)
    expected = theirs(betas=betas, global_orient=rotations[:, :1], body_pose=rotations[:, 1:], transl=transl, pose2rot=False)
    vertices, joints = skin(model, rotations, betas, transl)
    assert torch.allclose(vertices, expected.vertices, atol=1e-5)
    assert torch.allclose(joints, expected.joints[:, :24], atol=1e-5)


def test_free_body_poses_as_smplx_does(body: BodyModel, rng: np.random.Generator) -> None:
    from importlib import resources

    with resources.as_file(resources.files("mchmr_stream.assets") / "free_body.npz") as path, np.load(path) as file:
        assert_same_as_smplx(body, dict(file), rng)


def test_npz_with_pose_corrections_poses_as_smplx_does(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = smpl_arrays(rng)
    np.savez(tmp_path / "body.npz", **arrays)
    model = load_body(tmp_path / "body.npz")
    assert model.posedirs is not None
    assert model.name == "body"
    assert_same_as_smplx(model, arrays, rng)


def test_only_the_first_ten_betas_of_a_larger_file_are_used(tmp_path: Path, rng: np.random.Generator) -> None:
    arrays = smpl_arrays(rng, betas=300)
    np.savez(tmp_path / "body.npz", **arrays)
    arrays["shapedirs"] = arrays["shapedirs"][..., :10]
    assert_same_as_smplx(load_body(tmp_path / "body.npz"), arrays, rng)


def test_smplx_file_with_straight_hands_poses_as_smplx_does(tmp_path: Path, rng: np.random.Generator) -> None:
    smplx = import_or_skip("smplx")
    arrays = smpl_arrays(rng, parents=SMPLX_PARENTS, betas=400)
    np.savez(tmp_path / "SMPLX.npz", **arrays, joint2num=np.array({"not": "read"}, object))
    model = load_body(tmp_path / "SMPLX.npz")
    rotations, betas = random_rotations(rng, 3, 24), torch.randn(3, 10)
    vertices, joints = skin(model, rotations, betas)

    everything = torch.eye(3).repeat(3, 55, 1, 1)
    everything[:, :22] = rotations[:, :22]
    tensors = {key: torch.tensor(array, dtype=torch.float32) for key, array in arrays.items() if array.dtype.kind == "f"}
    expected_vertices, expected_joints = smplx.lbs.lbs(
        betas,
        everything,
        tensors["v_template"],
        tensors["shapedirs"][..., :10],
        tensors["posedirs"].reshape(-1, 486).T,
        tensors["J_regressor"],
        torch.tensor(SMPLX_PARENTS),
        tensors["weights"],
        pose2rot=False,
    )
    assert torch.allclose(vertices, expected_vertices, atol=1e-5)
    assert torch.allclose(joints, expected_joints[:, [*range(22), 28, 43]], atol=1e-5)


def test_identity_pose_is_the_template(body: BodyModel) -> None:
    vertices, joints = skin(body, torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10))
    # The file's weights are float16: rows sum to one within 0.0005, which moves a vertex by less than half a millimetre.
    assert torch.allclose(vertices[0], body.v_template, atol=5e-4)
    assert torch.allclose(joints, rest_joints(body, torch.zeros(1, 10)), atol=1e-6)


def test_rest_body_stands_as_documented(body: BodyModel) -> None:
    joints = dict(zip(body.joint_names, rest_joints(body, torch.zeros(1, 10))[0], strict=True))
    assert joints["left_wrist"][0] > 0.4 > -0.4 > joints["right_wrist"][0], "x points to the body's left"
    assert joints["head"][1] > joints["pelvis"][1] > joints["left_ankle"][1], "y points up"
    assert joints["left_foot"][2] > joints["left_ankle"][2] + 0.05, "z points forward"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_turning_the_root_turns_everything_about_the_pelvis(body: BodyModel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotations, betas, transl = random_rotations(rng, 1, 24), torch.tensor(rng.normal(size=(1, 10)), dtype=torch.float32), torch.randn(1, 3)
    turn = random_rotations(rng, 1)[0]
    pelvis = rest_pelvis(body, betas) + transl
    turned = torch.cat([turn @ rotations[:, :1], rotations[:, 1:]], 1)
    for before, after in zip(skin(body, rotations, betas, transl), skin(body, turned, betas, transl), strict=True):
        assert torch.allclose(after, (before - pelvis) @ turn.T + pelvis, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_bones_keep_their_length_and_the_pelvis_its_place(body: BodyModel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    betas = torch.tensor(rng.normal(size=(2, 10)), dtype=torch.float32)
    joints, outer = forward_kinematics(body, random_rotations(rng, 2, 24), betas)
    rest = rest_joints(body, betas)
    lengths = lambda at: (at[:, 1:] - at[:, list(PARENTS[1:])]).norm(dim=-1)
    assert torch.allclose(lengths(joints), lengths(rest), atol=1e-5)
    assert torch.allclose(joints[:, 0], rest_pelvis(body, betas))
    assert torch.allclose(outer @ outer.transpose(-1, -2), torch.eye(3).expand_as(outer), atol=1e-5)


@pytest.mark.parametrize("people", [0, 1, 3])
def test_joints_in_numpy_are_those_of_the_model(body: BodyModel, rng: np.random.Generator, people: int) -> None:
    exact = body.to(dtype=torch.float64)
    rotations, betas = random_rotations(rng, people, 24).double(), torch.from_numpy(rng.normal(size=(2, people, 10)))
    pelvis, around = numpy_kinematics.posed_joints(body, rotations.numpy(), betas.numpy())
    assert pelvis.shape == (2, people, 3)
    for one, at_pelvis, shape in zip(around, pelvis, betas, strict=True):
        assert torch.allclose(torch.from_numpy(at_pelvis), rest_pelvis(exact, shape), atol=1e-12)
        expected = forward_kinematics(exact, rotations, shape)[0]
        assert torch.allclose(torch.from_numpy(at_pelvis[:, None] + one), expected, atol=1e-12)


def test_kinematics_agree_with_skinning_and_with_a_joint_by_joint_loop(body: BodyModel, rng: np.random.Generator) -> None:
    rotations, betas = random_rotations(rng, 2, 24), torch.randn(2, 10)
    joints, outer = forward_kinematics(body, rotations, betas)
    rest = rest_joints(body, betas)
    slow_outer, slow_joints = [rotations[:, 0]], [rest[:, 0]]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        slow_joints.append(slow_joints[parent] + (slow_outer[parent] @ (rest[:, joint] - rest[:, parent])[..., None])[..., 0])
        slow_outer.append(slow_outer[parent] @ rotations[:, joint])
    assert torch.allclose(joints, torch.stack(slow_joints, 1), atol=1e-6)
    assert torch.allclose(outer, torch.stack(slow_outer, 1), atol=1e-6)
    assert torch.allclose(joints, skin(body, rotations, betas)[1], atol=1e-6)


def test_gradients_are_right(tmp_path: Path, rng: np.random.Generator) -> None:
    np.savez(tmp_path / "body.npz", **smpl_arrays(rng, vertices=6))
    model = load_body(tmp_path / "body.npz").to(dtype=torch.float64)
    rotations = random_rotations(rng, 1, 24).double().requires_grad_()
    betas = torch.randn(1, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r, b: skin(model, r, b), (rotations, betas), fast_mode=True)


def test_autocast_does_not_coarsen_the_body(body: BodyModel, rng: np.random.Generator) -> None:
    rotations, betas = random_rotations(rng, 1, 24), torch.randn(1, 10)
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = forward_kinematics(body, rotations, betas)
    assert torch.equal(inside, forward_kinematics(body, rotations, betas)[0])


def test_no_people_is_no_error(body: BodyModel) -> None:
    vertices, joints = skin(body, torch.zeros(0, 24, 3, 3), torch.zeros(0, 10))
    assert vertices.shape == (0, 6890, 3)
    assert joints.shape == (0, 24, 3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_with_cpu(body: BodyModel, rng: np.random.Generator) -> None:
    rotations, betas = random_rotations(rng, 3, 24), torch.randn(3, 10)
    on_gpu = skin(body.to("cuda"), rotations.cuda(), betas.cuda())
    for ours, cpu in zip(on_gpu, skin(body, rotations, betas), strict=True):
        assert torch.allclose(ours.cpu(), cpu, atol=1e-5)


# Pickled files. The official ones were written by Python 2 with chumpy; modules of that name are put up here for writing
# only and are gone when the file is read.


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    modules = {name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    Ch = type("Ch", (object,), {"__module__": "chumpy.ch"})
    Select = type("Select", (Ch,), {"__module__": "chumpy.reordering"})
    modules["chumpy.ch"].Ch = Ch  # type: ignore[attr-defined]
    modules["chumpy.reordering"].Select = Select  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return types.SimpleNamespace(Ch=Ch, Select=Select)


def with_state(cls: type, **state: Any) -> Any:
    item = cls()
    item.__dict__.update(state)
    return item


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_official_pickle_loads_without_chumpy(
    tmp_path: Path, rng: np.random.Generator, chumpy: types.SimpleNamespace, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = smpl_arrays(rng)
    shuffle = rng.permutation(arrays["v_template"].size)
    content = {
        **arrays,
        "shapedirs": with_state(chumpy.Ch, x=arrays["shapedirs"], _dirty_vars=set() if protocol > 2 else None),
        "v_template": with_state(
            chumpy.Select,
            a=with_state(chumpy.Ch, x=arrays["v_template"].ravel()[np.argsort(shuffle)]),
            idxs=shuffle,
            preferred_shape=arrays["v_template"].shape,
        ),
        "posedirs": np.asfortranarray(arrays["posedirs"]),
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "bs_style": "lbs",
        "J": with_state(chumpy.Ch, unknown="not needed"),
    }
    if protocol > 2:
        del content["shapedirs"].__dict__["_dirty_vars"]
    path = tmp_path / "basicModel_neutral.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, name)
    assert_same_as_smplx(load_body(path), arrays, rng)


def test_python_2_pickle_loads(tmp_path: Path, rng: np.random.Generator) -> None:
    """Python 2 wrote array bytes as text and other module names; protocol 2 with those swapped in is the same stream."""
    arrays = smpl_arrays(rng)
    text = _Python2Pickler.dumps(arrays)
    assert b"numpy.core.multiarray" in text
    assert b"_codecs" not in text
    path = tmp_path / "old.pkl"
    path.write_bytes(text)
    assert_same_as_smplx(load_body(path), arrays, rng)


class _Python2Pickler:
    """The few opcodes that Python 2's cPickle wrote for a dictionary of arrays (protocol 2)."""

    @staticmethod
    def dumps(arrays: dict[str, np.ndarray]) -> bytes:
        out = [b"\x80\x02}("]
        for name, array in arrays.items():
            raw, code = array.tobytes(), array.dtype.str[1:]
            shape = b"(" + b"".join(b"J" + length.to_bytes(4, "little") for length in array.shape) + b"t"
            dtype = (
                b"cnumpy\ndtype\nU"
                + bytes([len(code)])
                + code.encode()
                + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            )
            out.append(b"U" + bytes([len(name)]) + name.encode())
            out.append(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R")
            out.append(b"(K\x01" + shape + dtype + b"\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb")
        return b"".join(out) + b"u."


class _Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_that_runs_a_command_is_refused_by_name(tmp_path: Path, rng: np.random.Generator, protocol: int) -> None:
    import os

    victim = tmp_path / "was_run"
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({**smpl_arrays(rng), "extra": _Hostile(os.system, f"touch {victim}")}, protocol))
    with pytest.raises(InputError, match=r"posix\.system") as caught:
        load_body(path)
    assert not victim.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("hostile", "match"),
    [
        (_Hostile(eval, "1/0"), "builtins.eval|__builtin__.eval"),
        (_Hostile(np.ndarray, (10**15,)), "v_template holds no values"),
        (_Hostile(np.load, "x"), "numpy.*load"),
        (scipy.sparse.coo_matrix(np.eye(3)), "coo_matrix"),
    ],
)
def test_other_calls_are_refused(tmp_path: Path, rng: np.random.Generator, hostile: Any, match: str) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({**smpl_arrays(rng), "v_template": hostile}, 2))
    with pytest.raises(InputError, match=match):
        load_body(path)


def test_pickle_cannot_change_what_it_may_call(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x0c__defaults__)s\x86b.")
    with pytest.raises(InputError, match="change a function"):
        load_body(path)


def test_pickle_that_asks_for_memory_gets_none(tmp_path: Path) -> None:
    """A back reference of number four thousand million: the unpickler in C would reserve 64 GB."""
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")
    with pytest.raises(InputError, match="lacks v_template"):
        load_body(path)


def test_sparse_matrix_that_claims_too_much_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    huge = scipy.sparse.csr_matrix((10**6, 10**6))
    (tmp_path / "huge.pkl").write_bytes(pickle.dumps({**smpl_arrays(rng), "J_regressor": huge}))
    with pytest.raises(InputError, match="J_regressor is a sparse matrix of shape"):
        load_body(tmp_path / "huge.pkl")
    bad = scipy.sparse.csc_matrix(np.eye(24, 60))
    bad.indices[3] = 77
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({**smpl_arrays(rng), "J_regressor": bad}))
    with pytest.raises(InputError, match="J_regressor is a damaged sparse matrix"):
        load_body(tmp_path / "bad.pkl")


def test_damaged_pickles_never_escape_as_other_errors(tmp_path: Path, rng: np.random.Generator) -> None:
    whole = pickle.dumps(smpl_arrays(rng, vertices=4), 2)
    path = tmp_path / "body.pkl"
    refused = 0
    for trial in range(300):
        content = bytearray(whole[: len(whole) if trial % 2 else rng.integers(len(whole))])
        if trial % 2:
            content[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(bytes(content))
        try:
            load_body(path)
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"weights": None}, "lacks weights"),
        ({"weights": np.ones((60, 23))}, r"weights has shape \(60, 23\), expected \(60, 24\)"),
        ({"weights": np.ones((60, 24))}, "do not sum to one"),
        ({"v_template": np.full((60, 3), np.nan)}, "not finite"),
        ({"v_template": np.array({}, object)}, "pickled Python objects"),
        ({"shapedirs": np.zeros((60, 3, 4))}, "4 betas, expected at least 10"),
        ({"f": np.array([[0, 1, 60]])}, "faces name vertices"),
        ({"kintree_table": np.zeros((2, 24), np.uint32)}, "tree of joints"),
        ({"kintree_table": np.zeros((2, 16), np.uint32)}, "16 joints, expected 24"),
        ({"J_regressor": np.array([["a"]])}, "J_regressor has shape"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(tmp_path: Path, rng: np.random.Generator, change: dict[str, Any], match: str) -> None:
    arrays = {key: array for key, array in {**smpl_arrays(rng), **change}.items() if array is not None}
    np.savez(tmp_path / "body.npz", **arrays)
    with pytest.raises(InputError, match=match) as caught:
        load_body(tmp_path / "body.npz")
    assert "\n" not in str(caught.value)


def test_npz_header_that_claims_more_than_is_stored_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    np.savez(tmp_path / "body.npz", **smpl_arrays(rng))
    with zipfile.ZipFile(tmp_path / "body.npz") as old, zipfile.ZipFile(tmp_path / "lie.npz", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "v_template.npy":
                data = data.replace(b"(60, 3), }" + b" " * 12, b"(60, 3000000000), }   ")
            new.writestr(name, data)
    with pytest.raises(InputError, match="claims 1440000000000 bytes"):
        load_body(tmp_path / "lie.npz")


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "mesh.obj").write_text("v 0 0 0")
    for name, match in [("none.npz", "not there"), (".", "a folder"), ("text.npz", "zip"), ("mesh.obj", "ends in '.obj'")]:
        with pytest.raises(InputError, match=match):
            load_body(tmp_path / name)

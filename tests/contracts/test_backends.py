"""What every backend must keep to."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import jpeg, needs
from tests.support.batches import LIBRARIES, MEAN, STD, UINT8, WAYS, images_of, made, make_batch, read_batches, spoil
from wdsremux import codec
from wdsremux.errors import FormatError, ImageError, OptionError
from wdsremux.loading.augment import WHOLE
from wdsremux.loading.backends import BACKENDS, Batch, Setup, find
from wdsremux.loading.backends.cpu_decoders import Decoders
from wdsremux.loading.backends.placement import Plain
from wdsremux.loading.device import Destination
from wdsremux.loading.output import DTYPES, LAYOUTS, Output


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """The name of each way in turn; skips the test where its libraries are not installed."""
    name: str = request.param
    needs(*LIBRARIES[WAYS[name]])
    return name


def test_the_suite_knows_every_backend() -> None:
    assert {name for name, _ in WAYS.values()} == set(BACKENDS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_shape_dtype_layout_and_range(
    way: str, converted: Path, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    batches = read_batches(converted / "train", [16, 5])
    with made(way, dtype=dtype, memory_format=layout) as tested:
        results = images_of(tested, batches)
    assert [images.shape for images in results] == [(16, 3, 64, 64), (5, 3, 64, 64)]
    for images in results:
        assert images.dtype == dtype
        assert images.is_contiguous(memory_format=layout)
        assert images.device.type == "cpu"
        shares = images / 255 if dtype == torch.uint8 else raw(images)
        rounding = 0.01 if dtype == torch.bfloat16 else 0.001
        assert shares.min() >= -rounding
        assert shares.max() <= 1 + rounding
        assert shares.max() - shares.min() > 0.5  # photographs, not a constant


def raw(images: torch.Tensor) -> torch.Tensor:
    """Normalisation undone: 0 to 1, float32."""
    return images.float() * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_normalised_is_uint8_scaled(way: str, converted: Path, dtype: torch.dtype) -> None:
    batches = read_batches(converted / "train", [16])
    with made(way, **UINT8) as plain, made(way, dtype=dtype) as tested:
        (wanted,), (images,) = images_of(plain, batches), images_of(tested, batches)
    assert (raw(images) * 255 - wanted).abs().max() < (0.01 if dtype == torch.float32 else 0.1)


def test_a_crop_of_the_output_size_is_the_picture_itself(way: str, converted: Path) -> None:
    (batch,) = read_batches(converted / "train", [4])
    images = [batch.encoded.image(i).tobytes() for i in range(4)]
    boxes = [(0, 0, 64, 64), (10, 20, 64, 64), (192, 192, 64, 64), (7, 100, 64, 64)]
    with made(way, **UINT8) as tested:
        (straight,) = images_of(tested, [make_batch(images, boxes, [False] * 4)])
        (mirrored,) = images_of(tested, [make_batch(images, boxes, [True] * 4)])
    assert torch.equal(mirrored, straight.flip(3))
    for image, (x, y, w, h), tensor in zip(images, boxes, straight, strict=True):
        wanted = codec.decode(image)[y : y + h, x : x + w].astype(int)
        assert np.abs(tensor.permute(1, 2, 0).numpy() - wanted).max() <= 1


def test_a_crop_is_enlarged_and_reduced_to_the_size(way: str) -> None:
    """Left half black, right half white: a box over both shows where the edge is."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:, 128:] = 255
    boxes = [(0, 0, 256, 256), (96, 10, 64, 200), (120, 120, 16, 16), (64, 0, 128, 1)]
    with made(way, **UINT8) as tested:
        (images,) = images_of(tested, [make_batch([jpeg(picture, quality=100)] * 4, boxes, [False] * 4)])
    assert images[:, :, :, :28].max() < 10
    assert images[:, :, :, 36:].min() > 245


def test_grey_pictures_have_three_equal_channels(way: str) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    with made(way, **UINT8) as tested:
        (images,) = images_of(tested, [make_batch([jpeg(ramp, quality=95)], [(64, 0, 64, 64)], [False])])
    assert torch.equal(images[0, 0], images[0, 1])
    assert torch.equal(images[0, 0], images[0, 2])
    assert (images[0, 0].float() - torch.arange(64, 128)).abs().max() <= 3


def test_results_may_be_kept(way: str, converted: Path) -> None:
    with made(way) as tested:
        kept, copies = [], []
        for _, images in tested.run(iter(read_batches(converted / "train", [16] * 12))):
            kept.append(images)
            copies.append(images.clone())
    assert all(torch.equal(images, copy) for images, copy in zip(kept, copies, strict=True))
    assert len({images.data_ptr() for images in kept}) == 12


def test_results_may_be_written_to(way: str, converted: Path) -> None:
    batches = read_batches(converted / "train", [16] * 6)
    with made(way) as tested:
        wanted = [images.clone() for images in images_of(tested, batches)]
        for (_, images), right in zip(tested.run(iter(batches)), wanted, strict=True):
            assert torch.equal(images, right)
            images.zero_()


def test_a_sample_comes_out_the_same_in_any_batch(way: str, converted: Path) -> None:
    folder = converted / "train"
    with made(way) as tested:
        one = torch.cat(images_of(tested, read_batches(folder, [1] * 5 + [16, 3, 8])))
        other = torch.cat(images_of(tested, read_batches(folder, [16, 16])))
    assert torch.equal(one, other)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_every_batch_comes_once_in_order(way: str, converted: Path, count: int) -> None:
    """However many there are, and again with the same backend."""
    batches = read_batches(converted / "train", [4 + i % 3 for i in range(count)])
    with made(way) as tested:
        first, second = images_of(tested, batches), images_of(tested, batches)
    assert [len(images) for images in first] == [len(batch.encoded) for batch in batches]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_it_takes_a_batch_ahead_but_not_all(way: str, converted: Path) -> None:
    taken: list[int] = []

    def watched() -> Iterator[Batch]:
        for number, batch in enumerate(read_batches(converted / "train", [8] * 10)):
            taken.append(number)
            yield batch

    with made(way) as tested:
        results = tested.run(watched())
        next(results)
        assert 1 < len(taken) < 5
        results.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_run_that_was_closed_leaves_nothing_behind(way: str, converted: Path, taken: int) -> None:
    batches = read_batches(converted / "train", [8] * 6)
    with made(way) as tested:
        wanted = images_of(tested, batches)
        run = tested.run(iter(batches))
        for _ in range(taken):
            next(run)
        run.close()  # type: ignore[attr-defined]  # a generator
        again = images_of(tested, batches[::-1])
    assert all(torch.equal(a, b) for a, b in zip(again, wanted[::-1], strict=True))


@pytest.mark.parametrize("place", [0, 2, 5])
def test_an_undecodable_image_is_named(way: str, converted: Path, place: int) -> None:
    """And the backend goes on with what is sound."""
    batches = read_batches(converted / "train", [8] * 6)
    damaged = [*batches]
    damaged[place] = spoil(batches[place], 3)
    with made(way) as tested:
        wanted = images_of(tested, batches)
        for _ in range(2):
            sentence = rf"^sample {8 * place + 3} at byte .* cannot be decoded: not an image of any known format"
            with pytest.raises(ImageError, match=sentence):
                images_of(tested, damaged)
        assert all(torch.equal(a, b) for a, b in zip(images_of(tested, batches), wanted, strict=True))


def test_damage_since_the_conversion_is_told_from_what_never_was_an_image(way: str, converted: Path) -> None:
    batches = read_batches(converted / "train", [8] * 3)
    batches[1] = spoil(batches[1], 3, damaged=True)
    sentence = r"^sample 11 at byte \d+ of .*train-000000\.tar is damaged: its CRC-32 is wrong\."
    with made(way) as tested, pytest.raises(FormatError, match=sentence):
        list(tested.run(iter(batches)))


@pytest.mark.parametrize("skip", [False, True])
def test_a_picture_of_another_size_than_the_table_says_is_not_trained_on(way: str, converted: Path, skip: bool) -> None:
    """A header whose height was altered decodes, to rubbish: the CRC-32 shows the damage."""
    batches = read_batches(converted / "train", [8] * 3, WHOLE)
    encoded = batches[1].encoded
    frame = encoded.buffer.tobytes().index(b"\xff\xc0", int(encoded.starts[3]))
    encoded.buffer[frame + 5 : frame + 7] = [0, 64]  # big-endian
    with made(way, skip=skip) as tested:
        if skip:
            assert [batch.encoded.skipped for batch, _ in tested.run(iter(batches))] == [0, 1, 0]
        else:
            with pytest.raises(FormatError, match=r"^sample 11 at byte .* is damaged: its CRC-32 is wrong"):
                list(tested.run(iter(batches)))


@pytest.mark.parametrize("bad", [[0], [7], [3, 4], [0, 7], [0, 1, 2, 3, 4, 5, 6]])
def test_skip_puts_the_next_good_sample_there(way: str, converted: Path, bad: list[int]) -> None:
    batches = read_batches(converted / "train", [8] * 4)
    damaged = [batches[0], spoil(batches[1], *bad), spoil(batches[2], 5, damaged=True), batches[3]]
    with made(way, skip=True) as tested:
        wanted = images_of(tested, batches)
        results = list(tested.run(iter(damaged)))
        again = images_of(tested, batches)
    stands_in = [next(j % 8 for j in range(i, i + 8) if j % 8 not in bad) for i in range(8)]
    assert [batch.encoded.skipped for batch, _ in results] == [0, len(bad), 1, 0]
    assert results[1][0].encoded.ids.tolist() == [8 + j for j in stands_in]
    assert torch.equal(results[1][1], wanted[1][stands_in])
    assert torch.equal(results[2][1], wanted[2][[0, 1, 2, 3, 4, 6, 6, 7]])
    for i in (0, 3):
        assert torch.equal(results[i][1], wanted[i])
    assert all(torch.equal(a, b) for a, b in zip(again, wanted, strict=True))


def test_skip_raises_where_all_are_bad(way: str, converted: Path) -> None:
    batches = read_batches(converted / "train", [4] * 3)
    batches[1] = spoil(batches[1], 0, 1, 2, 3)
    with made(way, skip=True) as tested, pytest.raises(ImageError, match=r"^sample 4 .* cannot be decoded"):
        list(tested.run(iter(batches)))


def test_a_run_that_was_closed_forgets_an_undecodable_image(way: str, converted: Path) -> None:
    batches = read_batches(converted / "train", [8] * 4)
    with made(way) as tested:
        wanted = images_of(tested, batches)
        run = tested.run(iter([batches[0], spoil(batches[1], 0), *batches[2:]]))
        next(run)
        run.close()  # type: ignore[attr-defined]  # a generator
        assert all(torch.equal(a, b) for a, b in zip(images_of(tested, batches), wanted, strict=True))


def test_an_error_of_the_source_comes_through(way: str, converted: Path) -> None:
    batches = read_batches(converted / "train", [8] * 3)

    def failing() -> Iterator[Batch]:
        yield from batches
        raise OSError("the disk is gone")

    with made(way) as tested:
        with pytest.raises(OSError, match="the disk is gone"):
            list(tested.run(failing()))
        assert len(images_of(tested, batches)) == 3


def test_torchs_thread_count_stays(way: str, converted: Path) -> None:
    """The caller's own, and what threads begin with that are started later."""

    def counts() -> tuple[int, int]:
        with ThreadPoolExecutor(1) as later:
            return torch.get_num_threads(), later.submit(torch.get_num_threads).result()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with made(way) as tested:
            assert counts() == (3, 3)
            images_of(tested, read_batches(converted / "train", [16] * 2))
            assert counts() == (3, 3)
        assert counts() == (3, 3)
    finally:
        torch.set_num_threads(before)


def test_torch_begins_no_threads_beneath_those_that_decode() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        output = Output(size=8, dtype=torch.uint8, memory_format=torch.channels_last, mean=MEAN, std=STD)
        setup = Setup(output=output, batch_size=8, num_threads=2, destination=Destination(torch.device("cpu")))
        with contextlib.closing(Decoders(setup, Plain())) as decoders:
            counts = [decoders._threads.submit(torch.get_num_threads) for _ in range(8)]
            assert {count.result() for count in counts} == {1}
    finally:
        torch.set_num_threads(before)


def test_global_random_state_is_left_alone(way: str, converted: Path) -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    wanted = torch.rand(3), np.random.rand(3)
    torch.manual_seed(0)
    np.random.seed(0)
    with made(way) as tested:
        images_of(tested, read_batches(converted / "train", [16]))
    assert torch.equal(torch.rand(3), wanted[0])
    assert np.array_equal(np.random.rand(3), wanted[1])


def test_a_picture_of_one_pixel(way: str) -> None:
    pixel = jpeg(np.full((1, 1, 3), 200, np.uint8), quality=95)
    with made(way, **UINT8) as tested:
        (images,) = images_of(tested, [make_batch([pixel], [(0, 0, 1, 1)], [True])])
    assert (images.float() - 200).abs().max() <= 2


def test_images_kept_outlive_the_backend(way: str, converted: Path) -> None:
    with made(way, **UINT8) as tested:
        (images,) = images_of(tested, read_batches(converted / "train", [4], WHOLE))
        wanted = images.clone()
    del tested
    gc.collect()
    assert torch.equal(images, wanted)


def test_wrong_outputs() -> None:
    good = {"size": 8, "dtype": torch.float32, "memory_format": torch.contiguous_format, "mean": MEAN, "std": STD}
    for name, value in {
        "size": 0,
        "dtype": torch.float64,
        "memory_format": torch.preserve_format,
        "mean": (0.5, 0.5),
        "std": (1.0, 1.0, 0.0),
    }.items():
        with pytest.raises(OptionError, match=rf"^Invalid .*{name}.* \(got .*\)\. Supported: "):
            Output(**(good | {name: value}))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"^Invalid backend \(got 'pillow'\)\. Supported: auto, dali, torchvision$"):
        find("pillow", torch.device("cpu"))

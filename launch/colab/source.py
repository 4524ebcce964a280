# %% [markdown]
# # A voice of your own · Une voix à vous — rvc_jax
#
# Train a voice model on recordings of one person, and convert any other recording with it. Run the
# cells from top to bottom; after a disconnect run them all again: each continues where it stopped.
# **Use voices of people who agreed to it, and say so when speech is synthetic.**
#
# *Entraînez un modèle de voix à partir d'enregistrements d'une personne, puis convertissez-y tout
# autre enregistrement. Lancez les cellules de haut en bas ; après une déconnexion, relancez-les
# toutes : chacune reprend où elle s'était arrêtée.* ***N'utilisez que des voix de personnes qui ont
# donné leur accord, et signalez la parole synthétique.***

# %% [markdown]
# ## 1. The runtime · L'environnement
#
# Choose a TPU or GPU first: Runtime > Change runtime type. `INSTALL_FROM` is the address of the
# rvc_jax repository, as `git+https://...`, or the path of its zip that you uploaded into the Files
# panel, as `/content/rvc_jax.zip`. `UNITS_PER_HOUR`: what Colab shows under Resources, if you know
# better than our table; 0 takes the table.
#
# *Choisissez d'abord un TPU ou un GPU : Exécution > Modifier le type d'exécution.* `INSTALL_FROM`
# *est l'adresse du dépôt rvc_jax,* `git+https://...`*, ou le chemin de son zip envoyé dans le
# panneau Fichiers,* `/content/rvc_jax.zip`*.* `UNITS_PER_HOUR` *: ce que Colab affiche sous
# Ressources, si vous savez mieux que notre table ; 0 prend la table.*

# %%
# @title Language, check and installation · Langue, vérification et installation
import importlib
import subprocess
import sys

LANGUAGE = "English"  # @param ["English", "Français"]
INSTALL_FROM = ""  # @param {type:"string"}
UNITS_PER_HOUR = 0  # @param {type:"number"}

try:
    notebook = importlib.import_module("rvc_jax.notebook")
except ImportError:
    if not INSTALL_FROM:
        raise SystemExit(
            "Fill in INSTALL_FROM, run this cell again · Remplissez INSTALL_FROM, relancez"
        ) from None
    if subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", INSTALL_FROM]
    ).returncode:
        raise SystemExit(
            "INSTALL_FROM can't be installed: check it · Installation impossible : à vérifier"
        ) from None
    importlib.invalidate_caches()
    notebook = importlib.import_module("rvc_jax.notebook")
studio = notebook.start(LANGUAGE, INSTALL_FROM, UNITS_PER_HOUR)

# %% [markdown]
# ## 2. Drive and name · Drive et nom
#
# With Drive nothing is lost when Colab disconnects: speech, dataset, checkpoints, compiled programs
# and the voice are kept in `DRIVE_FOLDER`. A voice of the preset 40k needs about 5 GB there.
# `VOICE` names the voice and its files.
#
# *Avec Drive, rien n'est perdu si Colab se déconnecte : parole, données, points de sauvegarde,
# programmes compilés et voix sont dans* `DRIVE_FOLDER`*. Une voix du préréglage 40k y prend environ
# 5 Go.* `VOICE` *nomme la voix et ses fichiers.*

# %%
# @title Where everything is kept · Où tout est gardé
VOICE = "my voice"  # @param {type:"string"}
USE_GOOGLE_DRIVE = True  # @param {type:"boolean"}
DRIVE_FOLDER = "rvc_voices"  # @param {type:"string"}
studio.open_voice(VOICE, USE_GOOGLE_DRIVE, DRIVE_FOLDER)

# %% [markdown]
# ## 3. Speech · La parole
#
# Ten to thirty minutes of one person, clean, without music, are best. `SPEECH_FROM`: **upload**
# asks for files; **links** takes `LINKS` (videos, podcasts, plain files; several with spaces
# between); **folder** takes `SPEECH_FOLDER` on your Drive, as `MyDrive/recordings`. `UPLOAD_MORE`
# adds files to those uploaded before.
#
# *Dix à trente minutes d'une seule personne, propres, sans musique, sont l'idéal.* `SPEECH_FROM`
# *:* **upload** *demande des fichiers ;* **links** *prend* `LINKS` *(vidéos, podcasts, fichiers ;
# séparés par des espaces) ;* **folder** *prend* `SPEECH_FOLDER` *de votre Drive, comme*
# `MyDrive/enregistrements`*.* `UPLOAD_MORE` *ajoute des fichiers à ceux déjà envoyés.*

# %%
# @title Recordings · Enregistrements
SPEECH_FROM = (
    "upload (envoyer)"  # @param ["upload (envoyer)", "links (liens)", "folder (dossier)"]
)
LINKS = ""  # @param {type:"string"}
SPEECH_FOLDER = "MyDrive/recordings"  # @param {type:"string"}
UPLOAD_MORE = False  # @param {type:"boolean"}
studio.add_speech(SPEECH_FROM, LINKS, SPEECH_FOLDER, UPLOAD_MORE)

# %% [markdown]
# `PRESET`: 40k is the usual voice; 48k and 32k are the other formats of RVC; small starts
# from a base voice and takes minutes on any runtime, at 16 kHz.
#
# `PRESET` *: 40k est la voix habituelle ; 48k et 32k sont les autres formats de RVC ; small
# part d'une voix de base et prend quelques minutes, même sur un processeur, à 16 kHz.*

# %%
# @title Preparation and advice · Préparation et conseils
PRESET = "40k"  # @param ["40k", "48k", "32k", "small"]
studio.prepare(PRESET)
studio.audit()

# %% [markdown]
# ## 4. Time and cost · Temps et coût
#
# `EPOCHS`: passes over the speech; 200 are usual. `MEASURE`: where no estimate is known for this
# chip, a few steps are taken to find out, in a few minutes.
#
# `EPOCHS` *: passages sur la parole ; 200 sont habituels.* `MEASURE` *: si aucune estimation n'est
# connue pour cette puce, quelques pas sont faits pour mesurer, en quelques minutes.*

# %%
# @title Estimate · Estimation
EPOCHS = 200  # @param {type:"integer"}
MEASURE = True  # @param {type:"boolean"}
studio.estimate(EPOCHS, MEASURE)

# %% [markdown]
# ## 5. Training · Entraînement
#
# The curves come first: TensorBoard fills while the next cell trains (under Audio: hold-out
# speech as it improves). Then the training. `BUDGET` limits what this run may take over all its
# sessions, such as `5units`, `2h` or `90min`; the run ends in time to save; leave it empty for no
# limit. `SAVE_EVERY`: epochs between checkpoints. `RELEASE_AT_END`: when the training or its
# budget has ended, export the voice, check it on Drive, and **release the runtime** after
# `DELAY_MINUTES`, so that it costs nothing more. You can leave then.
#
# *Les courbes d'abord : TensorBoard se remplit pendant que la cellule suivante entraîne (sous Audio
# : la parole de contrôle, de mieux en mieux). Puis l'entraînement.* `BUDGET` *: ce que cet
# entraînement peut consommer, toutes sessions comprises :* `5units`*,* `2h` *ou* `90min` *; il
# s'arrête à temps pour sauvegarder ; vide : sans limite.* `SAVE_EVERY` *: époques entre deux
# sauvegardes.* `RELEASE_AT_END` *: à la fin de l'entraînement ou du budget, exporter la voix, la
# vérifier sur Drive, et* **libérer l'environnement***, pour qu'il ne coûte plus rien ;*
# `DELAY_MINUTES` *plus tard. Vous pouvez alors partir.*

# %%
# @title Curves and samples · Courbes et extraits
studio.tensorboard()

# %%
# @title Training · Entraînement
BUDGET = ""  # @param {type:"string"}
SAVE_EVERY = 50  # @param {type:"integer"}
RELEASE_AT_END = False  # @param {type:"boolean"}
DELAY_MINUTES = 0  # @param {type:"number"}
studio.train(EPOCHS, BUDGET, SAVE_EVERY, RELEASE_AT_END, DELAY_MINUTES)

# %% [markdown]
# ## 6. Using the voice · Utiliser la voix
#
# `RECORDING_FROM`: **example** is a bundled recording, **upload** asks for yours, **file** takes
# `RECORDING` on your Drive. `TRANSPOSE`: semitones up or down; auto brings the recording to the
# voice's pitch. The next cell writes the voice for RVC, Applio, w-okada's client and ONNX, reads it
# back, and downloads a zip.
#
# `RECORDING_FROM` *:* **example** *est un enregistrement fourni,* **upload** *demande le vôtre,*
# **file** *prend* `RECORDING` *de votre Drive.* `TRANSPOSE` *: demi-tons vers le haut ou le bas ;
# auto amène l'enregistrement à la hauteur de la voix. La cellule suivante écrit la voix pour RVC,
# Applio, le client de w-okada et ONNX, la relit, et télécharge un zip.*

# %%
# @title Convert and listen · Convertir et écouter
RECORDING_FROM = (
    "example (exemple)"  # @param ["example (exemple)", "upload (envoyer)", "file (fichier)"]
)
RECORDING = "MyDrive/song.mp3"  # @param {type:"string"}
TRANSPOSE = "auto"  # @param ["auto", "0", "12", "-12"] {allow-input: true}
FORMAT = "mp3"  # @param ["mp3", "wav", "flac"]
studio.convert(RECORDING_FROM, RECORDING, TRANSPOSE, FORMAT)

# %%
# @title Export and download · Exporter et télécharger
DOWNLOAD = True  # @param {type:"boolean"}
studio.export(DOWNLOAD)

# %% [markdown]
# ## 7. The end of the runtime · La fin de l'environnement
#
# A runtime costs units until it is released, used or not. `RELEASE`: check that the exported files
# are intact and on Drive, then release it, `AFTER_MINUTES` later; if they are not, it stays.
# Without Drive, tick `I_HAVE_THE_FILES` once the zip is on your computer.
#
# *Un environnement consomme des unités jusqu'à sa libération, utilisé ou non.* `RELEASE` *:
# vérifier que les fichiers exportés sont intacts et sur Drive, puis le libérer,* `AFTER_MINUTES`
# *plus tard ; sinon, il reste. Sans Drive, cochez* `I_HAVE_THE_FILES` *une fois le zip sur votre
# ordinateur.*

# %%
# @title Release the runtime · Libérer l'environnement
RELEASE = False  # @param {type:"boolean"}
AFTER_MINUTES = 0  # @param {type:"number"}
I_HAVE_THE_FILES = False  # @param {type:"boolean"}
studio.release(RELEASE, AFTER_MINUTES, I_HAVE_THE_FILES)

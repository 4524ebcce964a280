"""Everything that the notebook says, in English and in French."""

from __future__ import annotations

from typing import Literal

Language = Literal["en", "fr"]

LANGUAGES: dict[str, Language] = {"English": "en", "Français": "fr"}
"""By the name in the notebook's form."""

TEXTS: dict[str, tuple[str, str]] = {
    # the runtime
    "tpu": (
        "This runtime has a TPU ({name}): the chip that rvc_jax is made for.",
        "Cet environnement a un TPU ({name}) : la puce pour laquelle rvc_jax est fait.",
    ),
    "gpu": (
        "This runtime has a GPU ({name}). It trains well; in the menu under Runtime > Change runtime type there "
        "are TPUs as well.",
        "Cet environnement a un GPU ({name}). Il entraîne bien ; le menu Exécution > Modifier le type "
        "d'exécution offre aussi des TPU.",
    ),
    "cpu": (
        "This runtime has no accelerator: only the small preset nano trains in reasonable time. For a real voice "
        "choose a TPU or GPU in the menu under Runtime > Change runtime type, then run this cell again.",
        "Cet environnement n'a pas d'accélérateur : seul le petit préréglage nano s'entraîne en un temps "
        "raisonnable. Pour une vraie voix, choisissez un TPU ou un GPU dans le menu Exécution > Modifier le type "
        "d'exécution, puis relancez cette cellule.",
    ),
    "tpu other": (
        "This TPU ({name}) is not one that rvc_jax knows; it is treated like the nearest it knows.",
        "Ce TPU ({name}) n'est pas connu de rvc_jax ; il est traité comme le plus proche.",
    ),
    "rate": (
        "It takes about {units:.2f} compute units an hour (as users reported, the rates change), from the moment "
        "you connected until it is released, whether it works or not: 100 units last {hours:.0f} h. Colab shows "
        "the true rate under Resources.",
        "Il consomme environ {units:.2f} unités de calcul par heure (selon des utilisateurs, les tarifs "
        "changent), dès la connexion et jusqu'à sa libération, qu'il travaille ou non : 100 unités durent "
        "{hours:.0f} h. Colab affiche le vrai tarif sous Ressources.",
    ),
    "no rate": (
        "What it costs is not in our table: Colab shows the units per hour under Resources; write them into the "
        "form and run this cell again if you want estimates and a budget in units.",
        "Son coût n'est pas dans notre table : Colab affiche les unités par heure sous Ressources ; "
        "inscrivez-les dans le formulaire et relancez cette cellule pour avoir des estimations et un budget en "
        "unités.",
    ),
    "python": ("Python {version}.", "Python {version}."),
    "installing": (
        "Installing rvc_jax for this runtime; one to three minutes, once per session.",
        "Installation de rvc_jax pour cet environnement ; une à trois minutes, une fois par session.",
    ),
    "installed": (
        "rvc_jax {version} is ready, with JAX {jax} on {devices}. Nothing needs a restart: it has an environment "
        "of its own, and Colab's packages stay as they are.",
        "rvc_jax {version} est prêt, avec JAX {jax} sur {devices}. Aucun redémarrage n'est nécessaire : il a son "
        "propre environnement, et les paquets de Colab restent inchangés.",
    ),
    "not installed": (
        "The installation failed: {reason}. Check the address (INSTALL_FROM), then run this cell again.",
        "L'installation a échoué : {reason}. Vérifiez l'adresse (INSTALL_FROM), puis relancez cette cellule.",
    ),
    "no source": (
        "rvc_jax is not complete here, and INSTALL_FROM is empty: give the address of the repository.",
        "rvc_jax n'est pas complet ici, et INSTALL_FROM est vide : donnez l'adresse du dépôt.",
    ),
    "no devices": (
        "JAX does not reach the accelerator: {reason}. Restart the session (Runtime > Restart session), then run "
        "all cells again; nothing on Drive is lost.",
        "JAX n'atteint pas l'accélérateur : {reason}. Redémarrez la session (Exécution > Redémarrer la session), "
        "puis relancez toutes les cellules ; rien n'est perdu sur Drive.",
    ),
    # the voice's folder
    "bad name": (
        "VOICE {name!r} can't be a name: take letters, digits, spaces, '-' and '_', beginning and ending with a "
        "letter or digit, 60 at most.",
        "VOICE {name!r} ne peut pas être un nom : prenez lettres, chiffres, espaces, « - » et « _ », une lettre "
        "ou un chiffre au début et à la fin, 60 au plus.",
    ),
    "bad folder": (
        "DRIVE_FOLDER {name!r} must be a folder inside your Drive, without '..'.",
        "DRIVE_FOLDER {name!r} doit être un dossier de votre Drive, sans « .. ».",
    ),
    "no mount": (
        "Google Drive was not mounted: {reason}. Run the cell again and allow it, or untick USE_GOOGLE_DRIVE.",
        "Google Drive n'a pas été monté : {reason}. Relancez la cellule et autorisez-le, ou décochez USE_GOOGLE_DRIVE.",
    ),
    "drive gone": (
        "Google Drive is not mounted any more: run step 2 again, then this cell.",
        "Google Drive n'est plus monté : relancez l'étape 2, puis cette cellule.",
    ),
    "on drive": (
        "Everything about this voice is kept on your Drive, in {folder}. After a disconnect run all cells again: "
        "each continues where it stopped.",
        "Tout ce qui concerne cette voix est gardé sur votre Drive, dans {folder}. Après une déconnexion, "
        "relancez toutes les cellules : chacune reprend où elle s'est arrêtée.",
    ),
    "not on drive": (
        "Without Drive everything lies in {folder}, on this runtime only: a disconnect loses it. Download the "
        "voice before you leave.",
        "Sans Drive, tout est dans {folder}, sur cet environnement seulement : une déconnexion perd tout. "
        "Téléchargez la voix avant de partir.",
    ),
    "no voice": (
        "Run step 2 first: it names the voice.",
        "Lancez d'abord l'étape 2 : elle nomme la voix.",
    ),
    "there": ("There already: {what}.", "Déjà là : {what}."),
    "there speech": ("{count} recordings", "{count} enregistrements"),
    "there dataset": ("a prepared dataset", "un jeu de données préparé"),
    "there run": ("a run ({state}, step {step})", "un entraînement ({state}, pas {step})"),
    # speech
    "links needed": (
        "LINKS is empty: write one or several links, separated by spaces.",
        "LINKS est vide : écrivez un ou plusieurs liens, séparés par des espaces.",
    ),
    "upload only": (
        "There is no upload outside of Colab: put the recordings into a folder, and name it.",
        "Pas de téléversement hors de Colab : mettez les enregistrements dans un dossier, et nommez-le.",
    ),
    "nothing uploaded": (
        "Nothing was uploaded: run the cell again and choose recordings.",
        "Rien n'a été téléversé : relancez la cellule et choisissez des enregistrements.",
    ),
    "kept uploads": (
        "{count} recordings were uploaded before and are used; tick UPLOAD_MORE to add others.",
        "{count} enregistrements ont déjà été téléversés et sont utilisés ; cochez UPLOAD_MORE pour en ajouter.",
    ),
    "no folder": (
        "There is no folder {folder}: check SPEECH_FOLDER (in Drive it begins with MyDrive/).",
        "Il n'y a pas de dossier {folder} : vérifiez SPEECH_FOLDER (dans Drive, il commence par MyDrive/).",
    ),
    "speech": (
        "Speech: {count} files in {folder}.",
        "Parole : {count} fichiers dans {folder}.",
    ),
    "skipped": ("Skipped {name}: {reason}", "Laissé de côté {name} : {reason}"),
    "no speech": ("Run the speech cell first.", "Lancez d'abord la cellule de la parole."),
    "prepared before": (
        "The speech and the settings are those of the prepared dataset: it is used again.",
        "La parole et les réglages sont ceux du jeu de données préparé : il est réutilisé.",
    ),
    "prepared": (
        "{minutes:.1f} minutes of usable speech in {slices} slices; {held:.0f} s of it are kept aside to measure "
        "the voice on.",
        "{minutes:.1f} minutes de parole utilisable en {slices} tranches ; {held:.0f} s sont gardées pour "
        "mesurer la voix.",
    ),
    "advice": ("Advice on this speech:", "Conseils sur cette parole :"),
    "good": ("good", "bien"),
    "notice": ("notice", "remarque"),
    "problem": ("problem", "problème"),
    "page": ("The whole page: {file}", "La page entière : {file}"),
    "no dataset": (
        "Prepare the speech first (step 3).",
        "Préparez d'abord la parole (étape 3).",
    ),
    # estimate
    "measuring": (
        "There is no table for this chip and preset: a few steps are taken to measure.",
        "Il n'y a pas de table pour cette puce et ce préréglage : quelques pas sont faits pour mesurer.",
    ),
    "estimate": (
        "{epochs} epochs are {steps} steps of {milliseconds:.0f} ms: about {minutes} of training{units}.",
        "{epochs} époques font {steps} pas de {milliseconds:.0f} ms : environ {minutes} d'entraînement{units}.",
    ),
    "estimated by plan": (
        "This is an estimate of the TPU's compiler, not a measurement.",
        "C'est une estimation du compilateur du TPU, pas une mesure.",
    ),
    "estimated by steps": (
        "Measured here, over {steps} steps; evaluations and saving come on top.",
        "Mesuré ici, sur {steps} pas ; évaluations et sauvegardes viennent en plus.",
    ),
    "units": (", {units:.2f} compute units", ", {units:.2f} unités de calcul"),
    "compile": (
        "Before the first step the program is compiled, once: it took {minutes} on two busy processor cores, "
        "Colab's machines may be faster{units}. The result is kept, so that it is not needed again.",
        "Avant le premier pas, le programme est compilé, une fois : cela a pris {minutes} sur deux cœurs "
        "occupés, les machines de Colab peuvent être plus rapides{units}. Le résultat est gardé, et resservira.",
    ),
    "compiled before": (
        "Compiled programs are on Drive from before: the start is quick if this chip and version made them.",
        "Des programmes compilés sont déjà sur Drive : le départ est rapide s'ils viennent de cette puce et version.",
    ),
    "unknown": (
        "How long it takes here is not known: tick MEASURE, and a few steps are taken to find out; or train with "
        "a budget of time.",
        "La durée n'est pas connue ici : cochez MEASURE, et quelques pas la mesureront ; ou entraînez avec un "
        "budget de temps.",
    ),
    "steps done": (
        "{done} steps are done already; the estimate is for all.",
        "{done} pas sont déjà faits ; l'estimation est pour l'ensemble.",
    ),
    # training
    "training": (
        "Training. The square button at the left of this cell stops and saves; running it again continues.",
        "Entraînement. Le bouton carré à gauche de la cellule arrête et sauvegarde ; la relancer continue.",
    ),
    "saving": ("Stopping and saving...", "Arrêt et sauvegarde..."),
    "progress": (
        "step {step} of {total}, epoch {epoch} of {epochs}",
        "pas {step} sur {total}, époque {epoch} sur {epochs}",
    ),
    "left": ("{time} left", "encore {time}"),
    "speed": ("{speed:.2f} steps/s", "{speed:.2f} pas/s"),
    "hold-out": ("hold-out error {error:.3f}", "erreur de contrôle {error:.3f}"),
    "budget": ("budget: {budget}", "budget : {budget}"),
    "taken": (
        "about {units:.2f} units in this cell",
        "environ {units:.2f} unités dans cette cellule",
    ),
    "trained": (
        "Training has ended: {steps} steps.",
        "L'entraînement est terminé : {steps} pas.",
    ),
    "used up": (
        "The budget is used up, everything is saved ({steps} steps). A larger BUDGET goes on from here.",
        "Le budget est épuisé, tout est sauvegardé ({steps} pas). Un BUDGET plus grand continue d'ici.",
    ),
    "interrupted": (
        "Stopped and saved at step {steps}. Run the cell again to continue.",
        "Arrêté et sauvegardé au pas {steps}. Relancez la cellule pour continuer.",
    ),
    "better": (
        "Error on speech it had not heard: {before:.3f} at the start, {after:.3f} for the best voice (lower is "
        "better).",
        "Erreur sur de la parole jamais entendue : {before:.3f} au début, {after:.3f} pour la meilleure voix "
        "(moins est mieux).",
    ),
    "listen": (
        "The report has speech of the hold-out to listen to: the real voice, and the trained one.",
        "Le rapport contient de la parole de contrôle à écouter : la vraie voix, et la voix entraînée.",
    ),
    "bin": (
        "Old checkpoints lie in the bin of your Drive and take space there: empty it now and then.",
        "Les anciens points de sauvegarde sont dans la corbeille de Drive et y prennent de la place : videz-la "
        "parfois.",
    ),
    "no tensorboard": (
        "TensorBoard could not be shown ({reason}); training does not need it.",
        "TensorBoard n'a pas pu être affiché ({reason}) ; l'entraînement n'en a pas besoin.",
    ),
    # use
    "no run": ("Train the voice first (step 5).", "Entraînez d'abord la voix (étape 5)."),
    "bad transpose": (
        "TRANSPOSE {transpose!r} must be auto, or a number of semitones, as 12 or -3.5.",
        "TRANSPOSE {transpose!r} doit être auto, ou un nombre de demi-tons, comme 12 ou -3.5.",
    ),
    "no recording": ("There is no recording {file}.", "Il n'y a pas d'enregistrement {file}."),
    "source": ("The recording:", "L'enregistrement :"),
    "converted": ("In the voice ({file}):", "Dans la voix ({file}) :"),
    "exported": (
        "Exported and read back: {files}, in {folder}.",
        "Exporté et relu : {files}, dans {folder}.",
    ),
    "export checked": (
        "Exported before, and intact: {files}.",
        "Exporté auparavant, et intact : {files}.",
    ),
    "download": ("Downloading {file} ({size}).", "Téléchargement de {file} ({size})."),
    "download on drive": (
        "The download goes on while no cell runs; if it breaks off, the files are on Drive all the same.",
        "Le téléchargement se poursuit quand aucune cellule ne tourne ; s'il s'interrompt, les fichiers sont tout de "
        "même sur Drive.",
    ),
    # release
    "no export": (
        "Nothing is exported yet: run step 6 first. The runtime stays.",
        "Rien n'est encore exporté : lancez d'abord l'étape 6. L'environnement reste.",
    ),
    "export damaged": (
        "{file} is not as it was exported: run step 6 again. The runtime stays.",
        "{file} n'est plus tel qu'exporté : relancez l'étape 6. L'environnement reste.",
    ),
    "export older": (
        "The voice was trained further after its export: run step 6 again. The runtime stays.",
        "La voix a été entraînée davantage depuis son export : relancez l'étape 6. L'environnement reste.",
    ),
    "not safe": (
        "The voice is on this runtime only, and would be lost: download it, then tick I_HAVE_THE_FILES. The "
        "runtime stays.",
        "La voix n'est que sur cet environnement, et serait perdue : téléchargez-la, puis cochez "
        "I_HAVE_THE_FILES. L'environnement reste.",
    ),
    "waiting": (
        "The export is intact. The runtime is released in {minutes:g} minutes; stop this cell to keep it.",
        "L'export est intact. L'environnement sera libéré dans {minutes:g} minutes ; arrêtez la cellule pour le "
        "garder.",
    ),
    "kept": (
        "The runtime stays, and goes on costing units.",
        "L'environnement reste, et continue de consommer.",
    ),
    "not sent": (
        "Drive did not take everything: {reason}. The runtime stays; run step 2, then this cell again.",
        "Drive n'a pas tout reçu : {reason}. L'environnement reste ; relancez l'étape 2, puis cette cellule.",
    ),
    "releasing": (
        "Everything is safe. The runtime is released now; from then on it costs nothing.",
        "Tout est en sécurité. L'environnement est libéré maintenant ; dès lors il ne coûte plus rien.",
    ),
    "not released": (
        "Colab did not release the runtime: {reason}. Do it by hand: Runtime > Disconnect and delete runtime.",
        "Colab n'a pas libéré l'environnement : {reason}. Faites-le à la main : Exécution > Se déconnecter et "
        "supprimer l'environnement d'exécution.",
    ),
    "not on colab": (
        "This is not Colab: there is no runtime to release.",
        "Ce n'est pas Colab : il n'y a pas d'environnement à libérer.",
    ),
    "stays": (
        "RELEASE is not ticked: the runtime stays, and goes on costing units.",
        "RELEASE n'est pas coché : l'environnement reste, et continue de consommer.",
    ),
}
"""By key: English, French. What stands in braces is filled in, and is the same in both."""


class Translations:
    """The texts of one language."""

    def __init__(self, language: Language):
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        english, french = TEXTS[key]
        return (french if self.language == "fr" else english).format(**values)

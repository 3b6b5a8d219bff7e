/** What stands on the embedded screens: apps and controls, each with its picture, its names and its captions. */

/** Languages of the small captions under icons; commands are English. */
export const LANGUAGES = ["english", "german", "spanish"] as const;
export type Language = (typeof LANGUAGES)[number];

export interface App {
  /** The name that answers use, and that of its picture in `assets/icons/names.json`. */
  readonly name: string;
  /** Another word for it, the same for all users; a model must learn it. */
  readonly synonym: string;
  readonly captions: Readonly<Record<Language, string>>;
}

export interface Control {
  readonly name: string;
  readonly synonym: string;
}

const app = (name: string, synonym: string, german: string, spanish: string): App => ({
  name,
  synonym,
  captions: { english: name, german, spanish },
});

/** Captions avoid accents, as their letters are five pixels high. */
export const APPS: readonly App[] = [
  app("music", "tunes", "musik", "musica"),
  app("camera", "lens", "kamera", "camara"),
  app("calendar", "agenda", "termine", "fechas"),
  app("mail", "inbox", "post", "correo"),
  app("map", "atlas", "karte", "mapa"),
  app("clock", "alarm", "wecker", "reloj"),
  app("phone", "dialer", "telefon", "llamar"),
  app("chat", "messages", "chat", "charla"),
  app("weather", "forecast", "wetter", "tiempo"),
  app("news", "headlines", "zeitung", "diario"),
  app("photos", "gallery", "bilder", "fotos"),
  app("video", "movies", "filme", "cine"),
  app("games", "puzzles", "spiele", "juegos"),
  app("books", "library", "lesen", "libros"),
  app("notes", "memo", "notizen", "notas"),
  app("bank", "money", "bank", "banco"),
  app("shop", "cart", "kaufen", "tienda"),
  app("food", "burger", "essen", "comida"),
  app("taxi", "cab", "taxi", "taxi"),
  app("train", "railway", "bahn", "tren"),
  app("flights", "plane", "reisen", "vuelos"),
  app("hotel", "rooms", "hotel", "hotel"),
  app("health", "heart", "herz", "salud"),
  app("fitness", "workout", "sport", "deporte"),
  app("bike", "cycling", "rad", "bici"),
  app("radio", "stations", "radio", "radio"),
  app("tv", "channels", "tv", "tele"),
  app("files", "folder", "dateien", "carpeta"),
  app("settings", "options", "system", "ajustes"),
  app("browser", "web", "netz", "internet"),
  app("torch", "flashlight", "lampe", "luz"),
  app("wallet", "cards", "karten", "cartera"),
  app("podcast", "episodes", "podcast", "podcast"),
  app("paint", "drawing", "malen", "pintura"),
  app("keys", "passwords", "tresor", "claves"),
  app("pets", "dog", "tiere", "perros"),
];

/** Buttons of dialogs and actions of list headers. */
export const CONTROLS: readonly Control[] = [
  { name: "search", synonym: "find" },
  { name: "back", synonym: "return" },
  { name: "add", synonym: "new" },
  { name: "delete", synonym: "remove" },
  { name: "allow", synonym: "agree" },
  { name: "deny", synonym: "refuse" },
  { name: "alerts", synonym: "bell" },
  { name: "lock", synonym: "secure" },
  { name: "star", synonym: "favorite" },
  { name: "edit", synonym: "change" },
  { name: "share", synonym: "send" },
  { name: "refresh", synonym: "reload" },
];

/** Controls that stand at the end of a list's header. */
export const ACTIONS = ["search", "add", "delete", "alerts", "lock", "star", "edit", "share", "refresh"] as const;

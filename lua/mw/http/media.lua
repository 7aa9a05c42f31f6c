-- SPDX-License-Identifier: MIT

--- The media type of a file by the end of its name; application/octet-stream for what is not listed.
--
--   media.of("css/site.CSS")  -> "text/css; charset=utf-8"

local M = {}

local text = "; charset=utf-8"

local types = {
  html = "text/html" .. text, htm = "text/html" .. text, css = "text/css" .. text, js = "text/javascript" .. text, mjs = "text/javascript" .. text,
  txt = "text/plain" .. text, log = "text/plain" .. text, md = "text/markdown" .. text, csv = "text/csv" .. text, ics = "text/calendar" .. text,
  vcf = "text/vcard" .. text, vtt = "text/vtt" .. text, xml = "application/xml", json = "application/json", map = "application/json",
  webmanifest = "application/manifest+json", yaml = "application/yaml", yml = "application/yaml", wasm = "application/wasm", pdf = "application/pdf",
  rss = "application/rss+xml", atom = "application/atom+xml", xhtml = "application/xhtml+xml",
  zip = "application/zip", gz = "application/gzip", tgz = "application/gzip", tar = "application/x-tar", bz2 = "application/x-bzip2", xz = "application/x-xz",
  zst = "application/zstd", ["7z"] = "application/x-7z-compressed", jar = "application/java-archive",
  doc = "application/msword", xls = "application/vnd.ms-excel", ppt = "application/vnd.ms-powerpoint", rtf = "application/rtf", epub = "application/epub+zip",
  docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
  xlsx = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  pptx = "application/vnd.openxmlformats-officedocument.presentationml.presentation",
  odt = "application/vnd.oasis.opendocument.text", ods = "application/vnd.oasis.opendocument.spreadsheet",
  png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", webp = "image/webp", avif = "image/avif", svg = "image/svg+xml",
  ico = "image/x-icon", bmp = "image/bmp", tif = "image/tiff", tiff = "image/tiff", heic = "image/heic",
  mp3 = "audio/mpeg", ogg = "audio/ogg", oga = "audio/ogg", opus = "audio/ogg", wav = "audio/wav", flac = "audio/flac", m4a = "audio/mp4", aac = "audio/aac",
  mp4 = "video/mp4", m4v = "video/mp4", webm = "video/webm", ogv = "video/ogg", mov = "video/quicktime", mkv = "video/x-matroska", avi = "video/x-msvideo",
  ts = "video/mp2t", m3u8 = "application/vnd.apple.mpegurl", mpd = "application/dash+xml",
  woff = "font/woff", woff2 = "font/woff2", ttf = "font/ttf", otf = "font/otf", eot = "application/vnd.ms-fontobject",
}

function M.of(path)
  local ending = path:match("%.([^./]+)$")
  return ending and types[ending:lower()] or "application/octet-stream"
end

return M

# mw_embed(name dir ext): links every dir/**/*.ext into the program as `mw_embedded_<name>` (base/embed.h).
set(MW_EMBEDDED "" CACHE INTERNAL "")

function(mw_embed name dir ext)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS RELATIVE ${dir} ${dir}/*.${ext})
  list(FILTER files EXCLUDE REGEX "_meta/")
  list(SORT files)
  set(body "#include \"base/embed.h\"\n")
  set(table "")
  set(deps "")
  set(i 0)
  foreach(file IN LISTS files)
    string(APPEND body
      "__asm__(\".pushsection .rodata\\n.global mw_embed_${name}_${i}\\nmw_embed_${name}_${i}:\\n\"\n"
      "        \".incbin \\\"${dir}/${file}\\\"\\n.byte 0\\n.global mw_embed_${name}_${i}_end\\n\"\n"
      "        \"mw_embed_${name}_${i}_end:\\n.popsection\");\n"
      "extern const char mw_embed_${name}_${i}[], mw_embed_${name}_${i}_end[];\n")
    string(APPEND table "  {\"${file}\", mw_embed_${name}_${i}, mw_embed_${name}_${i}_end},\n")
    list(APPEND deps ${dir}/${file})
    math(EXPR i "${i} + 1")
  endforeach()
  string(APPEND body "const mw_embed mw_embedded_${name}[] = {\n${table}  {0, 0, 0},\n};\n")
  set(out ${CMAKE_BINARY_DIR}/embed_${name}.c)
  file(CONFIGURE OUTPUT ${out} CONTENT "${body}" @ONLY)
  set_source_files_properties(${out} PROPERTIES OBJECT_DEPENDS "${deps}")
  set(embedded ${MW_EMBEDDED} ${out})
  set(MW_EMBEDDED ${embedded} CACHE INTERNAL "")
endfunction()

# SPDX-License-Identifier: Apache-2.0
# cmake -DIN=a.js,b.js -DOUT=page.js -P JoinModules.cmake: JavaScript modules as one script, each after what
# it imports. They share one scope, so their top-level names must differ. Lines that begin with import or
# with export are the only module syntax that is understood.
string(REPLACE "," ";" files "${IN}")
set(script "\"use strict\";(() => {\n")
foreach(path IN LISTS files)
  file(READ ${path} text)
  string(REGEX REPLACE "(^|\n)import [^\n]*" "\\1" text "${text}")
  string(REGEX REPLACE "(^|\n)export " "\\1" text "${text}")
  string(APPEND script "${text}")
endforeach()
file(WRITE ${OUT} "${script}})();\n")

# SPDX-License-Identifier: Apache-2.0
# One place for compiler flags and for the three kinds of target: library, tool, test.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
# The tools look for the collector in ../lib/preserve next to bin, both here and when installed.
set(PRESERVE_PLUGIN_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/preserve)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
# Line tables are enough to profile and to read a backtrace; full debug information takes a third of the build.
# A preset may set other flags.
foreach(language C CXX)
  if(CMAKE_${language}_FLAGS_RELWITHDEBINFO STREQUAL "-O2 -g -DNDEBUG")
    set(CMAKE_${language}_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
  endif()
  if(CMAKE_${language}_FLAGS_DEBUG STREQUAL "-g")
    set(CMAKE_${language}_FLAGS_DEBUG "-O0 -g1")
  endif()
endforeach()

# A checkout elsewhere finds what this one compiled: paths below the source folder are relative for ccache. The
# sloppiness is what its manual asks for with precompiled headers.
find_program(PRESERVE_CCACHE ccache)
if(PRESERVE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${PRESERVE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

add_library(preserve_flags INTERFACE)
target_compile_options(preserve_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  # g++ 12 invents overlapping copies inside std::string (gcc bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<BOOL:${PRESERVE_WERROR}>:-Werror>)
target_compile_definitions(preserve_flags INTERFACE PRESERVE_VERSION="${PROJECT_VERSION}")
target_include_directories(preserve_flags INTERFACE ${PROJECT_SOURCE_DIR})

set(PRESERVE_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=")
if(PRESERVE_SANITIZE)
  add_compile_options(-fsanitize=${PRESERVE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${PRESERVE_SANITIZE})
endif()

# preserve_library(name SOURCES ... LINK ...): static library preserve_<name>, alias preserve::<name>.
function(preserve_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE" ${ARGN})
  add_library(preserve_${name} STATIC ${ARG_SOURCES})
  add_library(preserve::${name} ALIAS preserve_${name})
  target_link_libraries(preserve_${name} PUBLIC preserve_flags ${ARG_LINK} PRIVATE ${ARG_PRIVATE})
endfunction()

# What a user runs: the preserve-* tools, the collector, the example. scripts/demo builds this alone.
add_custom_target(tools)

# preserve_tool(name SOURCES ... LINK ...): executable bin/preserve-<name>, installed with its manual page and its
# completions for bash, zsh and fish, which the tool itself makes from its options.
function(preserve_tool name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(preserve-${name} ${ARG_SOURCES})
  target_link_libraries(preserve-${name} PRIVATE preserve_flags CLI11::CLI11 ${ARG_LINK})
  install(TARGETS preserve-${name} RUNTIME)
  add_dependencies(tools preserve-${name})
  if(PRESERVE_SANITIZE)
    return()
  endif()
  set(tool preserve-${name})
  set(share ${PROJECT_BINARY_DIR}/share)
  set(pages "")
  foreach(page man=man/man1/${tool}.1 bash=bash-completion/completions/${tool}
               zsh=zsh/site-functions/_${tool} fish=fish/vendor_completions.d/${tool}.fish)
    string(REPLACE "=" ";" page ${page})
    list(GET page 0 form)
    list(GET page 1 file)
    get_filename_component(folder ${file} DIRECTORY)
    add_custom_command(OUTPUT ${share}/${file}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${share}/${folder}
      COMMAND ${tool} --tool-page ${form} > ${share}/${file}
      DEPENDS ${tool} VERBATIM)
    list(APPEND pages ${share}/${file})
    install(FILES ${share}/${file} DESTINATION share/${folder})
    if(form STREQUAL zsh)  # below /usr Debian's zsh looks here alone
      install(FILES ${share}/${file} DESTINATION share/zsh/vendor-completions)
    endif()
  endforeach()
  add_custom_target(${tool}-pages ALL DEPENDS ${pages})
endfunction()

# preserve_test(name SOURCES ... LINK ... [LABELS ...] [TOOLS ...] [WHOLE] [SMOKE FILTER]): gtest executable,
# one CTest test per TEST(), or with WHOLE one for all, when they share a costly set-up. TOOLS are
# executables the test runs. Labels with a meaning:
#   threads    runs more than one thread in instrumented code: these alone are built (target
#              threaded_tests) and run under ThreadSanitizer
#   mpi        starts ranks: takes two of the processors that ctest -j shares out
#   cli        runs the tools as a user does     emulation   runs a GPU emulated block by block
#   figures    plans whole models, for what the numbers are
# What cli, emulation and figures run, other tests run in-process at a fraction of the time. Under a
# sanitizer, which makes them several times slower, only those with SMOKE are built, and only the
# tests that fit this filter of gtest's are run.
add_custom_target(threaded_tests)

# What most tests include, compiled once. An executable, since the tests are: code of a library is position-independent
# in another way, and GCC takes precompiled headers with the same options alone.
function(preserve_test_headers)
  add_executable(preserve_test_headers ${PROJECT_SOURCE_DIR}/tests/support/precompiled.cc)
  target_link_libraries(preserve_test_headers PRIVATE preserve_flags ${PRESERVE_FMT} GTest::gmock_main rapidcheck
    rapidcheck_gtest)
  preserve_test_options(preserve_test_headers)
  set_target_properties(preserve_test_headers PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_precompile_headers(preserve_test_headers PRIVATE <gmock/gmock.h> <gtest/gtest.h> <rapidcheck.h>
    <rapidcheck/gtest.h> <fmt/format.h>)
endfunction()

function(preserve_test_options name)
  # Tests assert no speed; optimising their templates would take most of the build.
  target_compile_options(${name} PRIVATE "$<$<CONFIG:RelWithDebInfo>:-O1>"
    # At -O1, g++ 12 wrongly reports accesses out of bounds in std::string and uninitialised members in Boost.
    "$<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess;-Wno-array-bounds;-Wno-maybe-uninitialized>")
  target_include_directories(${name} PRIVATE ${PROJECT_BINARY_DIR}/generated)
endfunction()

function(preserve_test name)
  cmake_parse_arguments(ARG "WHOLE" "TIMEOUT;SMOKE" "SOURCES;LINK;LABELS;TOOLS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)  # against a test that hangs, not one that is slow on a busy machine
  endif()
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE preserve_flags ${ARG_LINK} ${PRESERVE_FMT} GTest::gmock_main)
  preserve_test_options(${name})
  target_precompile_headers(${name} REUSE_FROM preserve_test_headers)
  if(ARG_TOOLS)
    add_dependencies(${name} ${ARG_TOOLS})
  endif()
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(threaded_tests ${name})
  endif()
  # Tests measure nothing that counts, so they do not wait for a quiet machine either. Properties are tried on the
  # same random inputs each time; scripts/nightly tries others.
  set(properties TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT PRESERVE_PATIENCE=0
                 ENVIRONMENT_MODIFICATION "RC_PARAMS=string_append: seed=1")
  if(ARG_LABELS)  # an empty value would swallow the next word
    list(JOIN ARG_LABELS "-" labels)  # gtest_discover_tests() takes one word; ctest -L looks for a part of it
    list(APPEND properties LABELS "${labels}")
  endif()
  if("mpi" IN_LIST ARG_LABELS)
    list(APPEND properties PROCESSORS 2)
  endif()
  set(filter "")
  if(PRESERVE_SANITIZE AND ARG_LABELS MATCHES "cli|emulation|figures")
    if(NOT ARG_SMOKE)
      set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
      return()
    endif()
    set(filter --gtest_filter=${ARG_SMOKE})
  endif()
  if(ARG_WHOLE OR filter)
    add_test(NAME ${name} COMMAND ${name} ${filter})
    set_tests_properties(${name} PROPERTIES ${properties})
  else()
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 300 PROPERTIES ${properties})
  endif()
endfunction()

# embed_text(target SYMBOL file): the file's content as `extern const std::string_view SYMBOL` in
# namespace preserve, so that tools carry their schema and page assets with them.
function(embed_text target symbol file)
  get_filename_component(path ${file} ABSOLUTE)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.cc)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DIN=${path} -DOUT=${out} -DSYMBOL=${symbol}
            -P ${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake
    DEPENDS ${path} ${PROJECT_SOURCE_DIR}/cmake/EmbedText.cmake VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()

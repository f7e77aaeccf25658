# SPDX-License-Identifier: Apache-2.0
# Script mode, see PreserveBundle.cmake: gathers PROGRAMS, MODULES and what they load into
# BUILD/NAME.tar.gz.
set(root ${BUILD}/${NAME})
file(REMOVE_RECURSE ${root})
file(COPY ${PROGRAMS} DESTINATION ${root}/bin)
file(COPY ${MODULES} DESTINATION ${root}/lib/preserve)
file(COPY ${SOURCE}/hooks/torch/ DESTINATION ${root}/lib/preserve/torch FILES_MATCHING PATTERN "*.py")
file(COPY ${SOURCE}/scripts/gpu-check ${SOURCE}/scripts/gpu-check-torch DESTINATION ${root}/scripts)
file(COPY ${SOURCE}/LICENSE ${SOURCE}/README.md DESTINATION ${root})
foreach(folder models devices area)
  if(EXISTS ${SOURCE}/examples/${folder})
    file(COPY ${SOURCE}/examples/${folder} DESTINATION ${root}/examples)
  endif()
endforeach()
file(COPY ${BUILD}/share DESTINATION ${root})  # manual pages and completions
file(GLOB pages ${SOURCE}/docs/*.md)
file(COPY ${pages} DESTINATION ${root}/docs)

# glibc is the host's. So is Open MPI, whose plugins and launcher must fit each other: only what runs
# several ranks needs it there.
file(GET_RUNTIME_DEPENDENCIES
  EXECUTABLES ${PROGRAMS} MODULES ${MODULES}
  RESOLVED_DEPENDENCIES_VAR libraries UNRESOLVED_DEPENDENCIES_VAR missing
  PRE_EXCLUDE_REGEXES
    "^ld-linux" "^lib(c|m|dl|rt|pthread|util|resolv)\\.so" "^lib(mpi|open-rte|open-pal)"
  DIRECTORIES /usr/lib/x86_64-linux-gnu)
if(missing)
  message(FATAL_ERROR "the bundle would lack ${missing}")
endif()
file(MAKE_DIRECTORY ${root}/licenses)
foreach(library ${libraries})
  get_filename_component(name ${library} NAME)
  get_filename_component(real ${library} REALPATH)
  file(COPY_FILE ${real} ${root}/lib/${name})
  execute_process(COMMAND dpkg-query -S ${real} OUTPUT_VARIABLE owner ERROR_QUIET)
  if(NOT owner)  # packages record paths from before /lib became /usr/lib
    string(REGEX REPLACE "^/usr" "" alias ${real})
    execute_process(COMMAND dpkg-query -S ${alias} OUTPUT_VARIABLE owner ERROR_QUIET)
  endif()
  if(owner MATCHES "^([^:, ]+)")
    set(package ${CMAKE_MATCH_1})
    if(EXISTS /usr/share/doc/${package}/copyright)
      file(COPY_FILE /usr/share/doc/${package}/copyright ${root}/licenses/${package})
    endif()
  endif()
endforeach()
file(GLOB binaries ${root}/bin/* ${root}/lib/preserve/*.so)
execute_process(COMMAND strip --strip-debug ${binaries} COMMAND_ERROR_IS_FATAL ANY)
# A newer symbol version keeps a program from starting, and the collector from being loaded.
file(GLOB carried ${root}/lib/*)
list(FILTER carried EXCLUDE REGEX "/preserve$")
foreach(binary ${binaries} ${carried})
  execute_process(COMMAND objdump -T ${binary} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "GLIBC_[0-9.]+" versions "${symbols}")
  list(REMOVE_DUPLICATES versions)
  foreach(version ${versions})
    string(REPLACE "GLIBC_" "" version ${version})
    if(version VERSION_GREATER GLIBC)
      message(FATAL_ERROR "${binary} needs glibc ${version}; the bundle is for ${GLIBC} and newer")
    endif()
  endforeach()
endforeach()
file(ARCHIVE_CREATE OUTPUT ${BUILD}/${NAME}.tar.gz PATHS ${NAME} FORMAT gnutar COMPRESSION GZip)
file(SIZE ${BUILD}/${NAME}.tar.gz bytes)
math(EXPR mib "${bytes} / 1048576")
message(STATUS "bundle: ${BUILD}/${NAME}.tar.gz, ${mib} MiB")

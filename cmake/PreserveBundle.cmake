# SPDX-License-Identifier: Apache-2.0
# Target `bundle` (preset bundle): preserve-<version>-linux-<machine>.tar.gz, which runs on any Linux with
# glibc PRESERVE_BUNDLE_GLIBC or newer (2.35: Ubuntu 22.04, on which most images of inference servers are
# based). Programs look for libraries in ../lib next to their folder, which holds everything but glibc and Open MPI. The C++ runtime is linked in, without the parts that are not used: Debian 12's shared one needs 2.36.
option(PRESERVE_BUNDLE "Build for the portable bundle: programs look for libraries in ../lib" OFF)
set(PRESERVE_BUNDLE_GLIBC 2.35)
if(PRESERVE_BUNDLE)
  set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
  set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib")
  add_link_options(-Wl,--disable-new-dtags)  # the old kind of path also holds for what libraries load
  add_link_options(-static-libstdc++ -Wl,--gc-sections)
endif()

# Called at the end, when all targets are known.
function(preserve_bundle_target)
  if(NOT PRESERVE_BUNDLE)
    return()
  endif()
  set(programs "")
  set(page_targets "")
  foreach(name profile calibrate tune replay report apply explore)
    if(TARGET preserve-${name})
      list(APPEND programs preserve-${name})
      list(APPEND page_targets preserve-${name}-pages)
    endif()
  endforeach()
  foreach(name tp_decoder gpu_decode gpu_test gpu_device_test)
    if(TARGET ${name})
      list(APPEND programs ${name})
    endif()
  endforeach()
  set(modules preserve_collect preserve_mpi preserve_apply_library)
  foreach(name preserve_touch preserve_apply_graphs)
    if(TARGET ${name})
      list(APPEND modules ${name})
    endif()
  endforeach()
  set(module_files "")
  foreach(module ${modules})
    list(APPEND module_files $<TARGET_FILE:${module}>)
  endforeach()
  set(files "")
  foreach(program ${programs})
    list(APPEND files $<TARGET_FILE:${program}>)
  endforeach()
  add_custom_target(bundle
    COMMAND ${CMAKE_COMMAND}
      "-DPROGRAMS=$<JOIN:${files},;>"
      "-DMODULES=$<JOIN:${module_files},;>"
      "-DSOURCE=${PROJECT_SOURCE_DIR}" "-DBUILD=${PROJECT_BINARY_DIR}"
      "-DGLIBC=${PRESERVE_BUNDLE_GLIBC}"
      "-DNAME=preserve-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR}"
      -P ${PROJECT_SOURCE_DIR}/cmake/MakeBundle.cmake
    DEPENDS ${programs} ${modules} ${page_targets} VERBATIM)
endfunction()

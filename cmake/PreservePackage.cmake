# SPDX-License-Identifier: Apache-2.0
# Debian package of what `cmake --install` installs: `cpack` in a build folder writes preserve_<version>_<arch>.deb.
# Its dependencies are read from the programs (dpkg-shlibdeps); Open MPI is only recommended, since only several
# ranks need it.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the Preserve authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS openmpi-bin)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md DESTINATION share/doc/preserve)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION share/doc/preserve RENAME copyright)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION share/doc/preserve FILES_MATCHING PATTERN "*.md")
include(CPack)

# library.cmake - libweir.a, libweir.so and what `make install` puts where.
#
# libweir.a is one object, made of all layers by `ld -r`, in which everything but the public names is
# local: internal names have short prefixes and must not meet those of a host program.  libweir.so is
# the same object linked.
set(object ${CMAKE_BINARY_DIR}/weir.o)
get_property(layers GLOBAL PROPERTY WEIR_LAYERS)
set(archives "")
foreach(layer ${layers})
    list(APPEND archives $<TARGET_FILE:${layer}>)
endforeach()
add_custom_command(OUTPUT ${object}
    COMMAND ${CMAKE_LINKER} -r -o ${object} --whole-archive ${archives}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${object}
    DEPENDS ${layers} ${archives} VERBATIM)
# One target makes the object: with make, two that both wanted it would make it at the same time.
add_custom_target(weir_object DEPENDS ${object})

add_library(weir_static STATIC ${object})
add_library(weir_shared SHARED ${object})
add_dependencies(weir_static weir_object)
add_dependencies(weir_shared weir_object)
set_target_properties(weir_static weir_shared PROPERTIES OUTPUT_NAME weir LINKER_LANGUAGE C
    ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
# Before 1.0 every minor version may change the interface.
set_target_properties(weir_shared PROPERTIES VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_link_libraries(weir_shared PRIVATE PkgConfig::JANSSON PkgConfig::PCRE2 PkgConfig::UTF8PROC
    Threads::Threads m)
target_link_options(weir_shared PRIVATE LINKER:-z,relro LINKER:-z,now)
if(NOT CMAKE_C_FLAGS MATCHES "-fsanitize")
    target_link_options(weir_shared PRIVATE LINKER:--no-undefined)
endif()

file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/weir.pc.in ${CMAKE_BINARY_DIR}/weir.pc @ONLY)
install(TARGETS weir_static weir_shared)
install(FILES include/weir/weir.h include/weir/nn.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/weir)
install(FILES ${CMAKE_BINARY_DIR}/weir.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(TARGET weir)
    install(TARGETS weir)
endif()
if(TARGET weir_texts)
    set(data ${CMAKE_INSTALL_DATADIR})
    install(FILES ${CMAKE_BINARY_DIR}/weir.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
    install(FILES ${CMAKE_BINARY_DIR}/weir.bash DESTINATION ${data}/bash-completion/completions
            RENAME weir)
    install(FILES ${CMAKE_BINARY_DIR}/_weir DESTINATION ${data}/zsh/vendor-completions)
    install(FILES ${CMAKE_BINARY_DIR}/weir.fish DESTINATION ${data}/fish/vendor_completions.d)
endif()

# SPDX-License-Identifier: MIT
SUMMARY = "Azure Device Provisioning Service client"
DESCRIPTION = "dpsd provisions a gateway through the Azure IoT Hub Device Provisioning Service, and hands the hub, the device id \
and fresh credentials to the programs on the box."
SECTION = "net"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=9c76c58d8ecc8a1e7854f9c83a052be9"

# The source release is beside the recipe, in files/. See the layer's README.md.
SRC_URI = "file://dps-${PV}.tar.xz file://run-ptest"

DEPENDS = "json-c mosquitto openssl systemd"

inherit meson pkgconfig systemd useradd ptest bash-completion features_check

REQUIRED_DISTRO_FEATURES = "systemd usrmerge"

PACKAGECONFIG ??= "https \
    ${@bb.utils.filter('DISTRO_FEATURES', 'polkit', d)} \
    ${@bb.utils.contains('MACHINE_FEATURES', 'tpm2', 'tpm', '', d)} \
"
PACKAGECONFIG[https] = "-Dhttps=enabled,-Dhttps=disabled,curl,,${PN}-https"
PACKAGECONFIG[api] = "-Dapi=enabled,-Dapi=disabled,libmicrohttpd,,${PN}-api"
PACKAGECONFIG[tpm] = "-Dtpm=enabled,-Dtpm=disabled,tpm2-tss,,${PN}-tpm"
# The module for keys in PKCS#11 tokens and TPMs needs no library to be built, so it is always there: this installs it.
PACKAGECONFIG[pkcs11] = ",,,,${PN}-hardware-key"
PACKAGECONFIG[polkit] = ",,polkit,,${PN}-polkit"
PACKAGECONFIG[emulator] = "-Demulator=true -Demulator-https=enabled,-Demulator=false -Demulator-https=disabled,libmicrohttpd gnutls"

# A program loads only modules of its own build.
EXTRA_OEMESON = "-Dbuild-id=${EXTENDPKGV} -Dtests=${@'true' if d.getVar('PTEST_ENABLED') == '1' else 'false'}"
DEPENDS += "${@'cmocka' if d.getVar('PTEST_ENABLED') == '1' else ''}"

# The same users and groups as in data/dps.sysusers: with a read-only root they must be in the image.
USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system dps; --system tss"
USERADD_PARAM:${PN} = "--system --user-group --no-create-home --home-dir ${localstatedir}/lib/dps --shell /sbin/nologin --groups dps dpsd"

SYSTEMD_SERVICE:${PN} = "dpsd.service"

do_install:append() {
    # The same directories as in data/dps.tmpfiles.
    install -d -m 0750 -o root -g dpsd ${D}${sysconfdir}/dps
    install -d -m 0700 ${D}${sysconfdir}/dps/credentials
    install -d -m 0700 -o dpsd -g dpsd ${D}${localstatedir}/lib/dps

    # rpm wants all packages to agree about a directory, and this is how polkit has it in scarthgap.
    if ${@bb.utils.contains('PACKAGECONFIG', 'polkit', 'true', 'false', d)} && \
        ${@bb.utils.contains('LAYERSERIES_CORENAMES', 'scarthgap', 'true', 'false', d)}; then
        chmod 0700 ${D}${datadir}/polkit-1/rules.d
        chown polkitd:root ${D}${datadir}/polkit-1/rules.d
    fi
}

do_install_ptest() {
    install -d ${D}${PTEST_PATH}/tests
    for test in ${B}/tests/unit/test-*; do
        # test-module loads modules out of the build directory.
        if [ -f $test ] && [ -x $test ] && [ $(basename $test) != test-module ]; then
            install -m 0755 $test ${D}${PTEST_PATH}/tests/
            chrpath --delete ${D}${PTEST_PATH}/tests/$(basename $test)
        fi
    done
}

PACKAGE_BEFORE_PN = "libdps ${PN}-https ${PN}-import ${PN}-api ${PN}-tpm ${PN}-hardware-key ${PN}-polkit ${PN}-emulator"

FILES:libdps = "${libdir}/libdps.so.*"
FILES:${PN}-https = "${libdir}/dps/modules/https.so"
FILES:${PN}-import = "${libexecdir}/dps/dpsctl-import-config"
FILES:${PN}-api = "${libdir}/dps/modules/api.so"
FILES:${PN}-tpm = "${libdir}/dps/modules/tpm.so ${systemd_system_unitdir}/dpsd.service.d/50-dps-tpm.conf"
FILES:${PN}-hardware-key = " \
    ${libdir}/dps/modules/hardware-key.so \
    ${systemd_system_unitdir}/dpsd.service.d/50-dps-hardware-key.conf \
"
FILES:${PN}-polkit = "${datadir}/polkit-1"
FILES:${PN}-emulator = "${bindir}/dps-emulator ${libdir}/dps/dps-emulator-plugin.so"
FILES:${PN} = " \
    ${bindir}/dpsctl \
    ${sbindir}/dpsd \
    ${libdir}/dps/dps-consumers \
    ${libdir}/dps/modules/check.so \
    ${libdir}/dps/modules/issuance.so \
    ${libdir}/dps/modules/mqtt.so \
    ${libdir}/dps/modules/transport.so \
    ${sysconfdir}/dps \
    ${localstatedir}/lib/dps \
    ${systemd_system_unitdir} \
    ${nonarch_libdir}/systemd \
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
    ${datadir}/dbus-1 \
    ${datadir}/zsh \
    ${datadir}/fish \
"

RDEPENDS:${PN} += "dbus"
RDEPENDS:${PN}-https += "${PN}"
# Its TOML is in the standard library, in a package that is not the same in each series.
RDEPENDS:${PN}-import += "${PN} python3-modules"
RDEPENDS:${PN}-api += "${PN}"
RDEPENDS:${PN}-tpm += "${PN}"
RDEPENDS:${PN}-hardware-key += "${PN}"
RDEPENDS:${PN}-polkit += "${PN} polkit"
RDEPENDS:${PN}-emulator += "mosquitto"
RRECOMMENDS:${PN} += "ca-certificates"

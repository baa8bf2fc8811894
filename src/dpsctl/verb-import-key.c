/* SPDX-License-Identifier: MIT */
#include "dpsctl/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "basic/files.h"
#include "basic/text.h"
#include "config/key-text.h"
#include "config/pem.h"
#include "dpsctl/output.h"

/*
 * dpsctl import-key: encrypts a key for this machine with systemd-creds(1), and hands it to the service. The key is in no
 * argument and in no file on the way. A drop-in names each credential, because systemd 252 has no other way to find one by its
 * name, and cannot take a directory of encrypted ones beside a directory of plain ones under the same prefix.
 */

#define STORE "/etc/credstore.encrypted"
#define DROP_INS "/etc/systemd/system/dpsd.service.d"
#define PREFIX "dps_" /* the daemon looks for dps_NAME when the configuration says credential:NAME */
#define ENCRYPTED_MAX (256U * 1024)

/* The name becomes that of a file and a word in a unit. */
static bool name_is_plain(const char *name) {
        return strlen(name) < 128 && *name != '.' &&
               strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
                       strlen(name);
}

/* What is in a file of a key: the setting that it is for; NULL: it is no key. */
static const char *find_setting(const char *text, size_t size, const char **ret_why) {
        _cleanup_(dps_key_done) DpsKey key = { 0 };
        EVP_PKEY *private = NULL;

        if (!strstr(text, "-----BEGIN"))
                return key_from_text(text, size, &key, ret_why) < 0 ? NULL : "Key";
        if (!strstr(text, PEM_TSS2_BEGIN) && pem_read_key(text, size, &private, ret_why) < 0)
                return NULL;
        EVP_PKEY_free(private);
        return "PrivateKey";
}

static int run(char *const *argv, int in, int out) {
        posix_spawn_file_actions_t actions;
        int r, status = 0;
        pid_t pid;

        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO)
                    ?: posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO)
                    ?: posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        if (r != 0)
                return -r;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPROTO;
}

/* Both files are in memory. */
static int encrypt_key(const char *name, const char *key, size_t size, char **ret, size_t *ret_size) {
        _cleanup_(closep) int in = memfd_create("key", MFD_CLOEXEC),
                              out = memfd_create("encrypted", MFD_CLOEXEC);
        _cleanup_(freep) char *option = NULL;
        int r;

        if (in < 0 || out < 0 || write(in, key, size) != (ssize_t) size || lseek(in, 0, SEEK_SET) < 0)
                return errno > 0 ? -errno : -EIO;
        option = text_format("--name=" PREFIX "%s", name);
        if (!option)
                return -ENOMEM;
        r = run((char *[]){ (char *) "systemd-creds", (char *) "encrypt", option, (char *) "-", (char *) "-",
                            NULL },
                in, out);
        if (r < 0)
                return r;
        if (lseek(out, 0, SEEK_SET) < 0)
                return -errno;
        return file_read_fd(out, ENCRYPTED_MAX, ret, ret_size);
}

/* Durable, because whoever imports a key destroys the file that it was in. */
static int save(const char *directory, mode_t directory_mode, const char *name, const char *data, size_t size,
                mode_t mode) {
        _cleanup_(closep) int fd = -1;
        FileDraft draft;
        int r;

        r = directory_make_path(directory, directory_mode);
        if (r < 0)
                return r;
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = file_draft_write(&draft, fd, name, data, size, mode, (gid_t) -1);
        if (r < 0)
                return r;
        r = file_draft_sync(&draft);
        if (r >= 0)
                r = file_draft_rename(&draft, fd, name);
        if (r < 0) {
                file_draft_discard(&draft, fd);
                return r;
        }
        return directory_sync(fd);
}

static int save_both(const char *name, const char *path, const char *encrypted, size_t size) {
        char drop_in[NAME_MAX], text[2 * PATH_MAX];
        int r, n;

        r = save(STORE, 0700, strrchr(path, '/') + 1, encrypted, size, 0600);
        if (r >= 0) {
                snprintf(drop_in, sizeof(drop_in), "credential-%s.conf", name);
                n = snprintf(text, sizeof(text), "[Service]\nLoadCredentialEncrypted=" PREFIX "%s:%s\n", name,
                             path);
                r = save(DROP_INS, 0755, drop_in, text, (size_t) n, 0644);
        }
        if (r < 0)
                return fail_with(r == -EACCES || r == -EPERM ? EXIT_NOT_PERMITTED : EXIT_FAILED,
                                 "the key cannot be saved in " STORE " and " DROP_INS ": %s", strerror(-r));
        return 0;
}

static int import(const Options *o, const char *name, const char *path, const char *key, size_t size) {
        const char *source = o->n_arguments > 1 ? o->arguments[1] : "-", *setting, *why = NULL;
        _cleanup_(freep) char *encrypted = NULL;
        size_t encrypted_size;
        int r;

        setting = find_setting(key, size, &why);
        if (!setting)
                return key_refused(source, why ?: strerror(ENOMEM));
        if (!o->force && access(path, F_OK) == 0)
                return fail_with(EXIT_FAILED, "%s exists; --force replaces the key in it", path);
        r = encrypt_key(name, key, size, &encrypted, &encrypted_size);
        if (r < 0)
                return fail_with(EXIT_FAILED, "systemd-creds, which encrypts the key, has failed%s%s",
                                 r == -EPROTO ? "" : ": ", r == -EPROTO ? "" : strerror(-r));
        r = save_both(name, path, encrypted, encrypted_size);
        if (r != 0 || o->quiet)
                return r;
        if (o->json != JSON_OFF)
                return output_json(o, json_pack("tsss", "version", (uint64_t) 1, "Name", name, "Setting",
                                                setting, "File", path));
        printf("The key is encrypted in %s. The configuration names it by\n  %s=credential:%s\n"
               "The service gets it when it is started again:\n  systemctl daemon-reload && systemctl "
               "restart dpsd\n",
               path, setting, name);
        return EXIT_DONE;
}

int verb_import_key(const Options *o) {
        const char *name = o->arguments[0];
        char path[PATH_MAX], key[KEY_TEXT_MAX + 1];
        size_t size = 0;
        int r;

        if (!name_is_plain(name))
                return fail_with(
                        EXIT_USAGE,
                        "'%s' is not a name for a key: it must be of letters, digits, '.', '_' and '-'",
                        name);
        if (geteuid() != 0)
                return fail_with(EXIT_NOT_PERMITTED, "only root can hand keys to the service");
        snprintf(path, sizeof(path), STORE "/" PREFIX "%s", name);
        r = read_key_text(o->n_arguments > 1 ? o->arguments[1] : "-", key, &size);
        if (r == 0)
                r = import(o, name, path, key, size);
        explicit_bzero(key, sizeof(key));
        return r;
}

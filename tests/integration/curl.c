/* SPDX-License-Identifier: MIT */

/* Preloaded into a program (LD_PRELOAD): its libcurl says that it is built without NTLM, as some are. */

#include <curl/curl.h>

__attribute__((visibility("default"))) curl_version_info_data *curl_version_info(CURLversion version) {
        static curl_version_info_data info = { .age = CURLVERSION_NOW,
                                               .version = LIBCURL_VERSION,
                                               .features = CURL_VERSION_SSL };

        return &info;
}

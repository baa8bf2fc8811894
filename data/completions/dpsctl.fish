# SPDX-License-Identifier: MIT
# dpsctl(1): completion for fish.

function __dpsctl_host
    set -l tokens (commandline -opc)
    for i in (seq (count $tokens))
        if string match -q -- '--host=*' $tokens[$i]
            echo -- $tokens[$i]
        else if contains -- $tokens[$i] -H --host; and test $i -lt (count $tokens)
            echo -- -H
            echo -- $tokens[(math $i + 1)]
        end
    end
end

# The words after the options: the verb, and its arguments.
function __dpsctl_words
    set -l skip 0
    for token in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $token -H --host -p --property --timeout --lifetime --root --key --id-scope --registration-id --hub --device-id --expiry
            set skip 1
        else if not string match -q -- '-*' $token
            echo -- $token
        end
    end
end

function __dpsctl_verb_is
    set -l words (__dpsctl_words)
    set -q words[1]; and contains -- $words[1] $argv
end

function __dpsctl_has_no_verb
    test (count (__dpsctl_words)) = 0
end

function __dpsctl_names
    dpsctl --no-pager (__dpsctl_host) show --property=Name 2>/dev/null | string replace -rf '^Name=' ''
end

function __dpsctl_properties
    dpsctl --no-pager (__dpsctl_host) show 2>/dev/null | string replace -rf '=.*' '' | sort -u
end

function __dpsctl_ids
    dpsctl --no-pager --no-legend explain 2>/dev/null | string replace -r ' +' '\t'
end

set -l with_name status show reprovision wait token connection enrollment report-hub-failure report-hub-connected forget history check cat-config

complete -c dpsctl -f
complete -c dpsctl -l json -xa 'pretty short off' -d 'output for programs'
complete -c dpsctl -l no-pager -d 'no pager'
complete -c dpsctl -l no-legend -d 'no legend'
complete -c dpsctl -s q -l quiet -d 'less output'
complete -c dpsctl -l redact -d 'mask ids and hub'
complete -c dpsctl -s H -l host -xa '(__fish_complete_user_at_hosts)' -d 'the daemon of that host, over ssh'
complete -c dpsctl -l help -d 'help'
complete -c dpsctl -l version -d 'version'

complete -c dpsctl -n __dpsctl_has_no_verb -a status -d 'state of each identity, and what comes next'
complete -c dpsctl -n __dpsctl_has_no_verb -a show -d 'the properties'
complete -c dpsctl -n __dpsctl_has_no_verb -a reprovision -d 'ask DPS again'
complete -c dpsctl -n __dpsctl_has_no_verb -a wait -d 'until assigned or failed'
complete -c dpsctl -n __dpsctl_has_no_verb -a token -d 'a SAS token for the hub'
complete -c dpsctl -n __dpsctl_has_no_verb -a connection -d 'what a program needs to connect'
complete -c dpsctl -n __dpsctl_has_no_verb -a enrollment -d 'what DPS has to be told to enroll this device'
complete -c dpsctl -n __dpsctl_has_no_verb -a report-hub-failure -d 'the hub refused a program'
complete -c dpsctl -n __dpsctl_has_no_verb -a report-hub-connected -d 'the hub is good again'
complete -c dpsctl -n __dpsctl_has_no_verb -a reload -d 'read the configuration again'
complete -c dpsctl -n __dpsctl_has_no_verb -a forget -d 'forget what is remembered of an identity'
complete -c dpsctl -n __dpsctl_has_no_verb -a log-level -d 'show or set the log level'
complete -c dpsctl -n __dpsctl_has_no_verb -a metrics -d 'for Prometheus'
complete -c dpsctl -n __dpsctl_has_no_verb -a monitor -d 'follow changes'
complete -c dpsctl -n __dpsctl_has_no_verb -a history -d 'past changes'
complete -c dpsctl -n __dpsctl_has_no_verb -a check -d 'look for problems, and say what to do'
complete -c dpsctl -n __dpsctl_has_no_verb -a cat-config -d 'the configuration as it is read'
complete -c dpsctl -n __dpsctl_has_no_verb -a verify-config -d 'look for faults in the configuration'
complete -c dpsctl -n __dpsctl_has_no_verb -a expand -d 'expand specifiers'
complete -c dpsctl -n __dpsctl_has_no_verb -a explain -d 'what an error means'
complete -c dpsctl -n __dpsctl_has_no_verb -a derive-key -d 'make a key'
complete -c dpsctl -n __dpsctl_has_no_verb -a sas -d 'make a token'
complete -c dpsctl -n __dpsctl_has_no_verb -a import-key -d 'encrypt a key for this machine'
complete -c dpsctl -n __dpsctl_has_no_verb -a import-config -d 'make a NAME.conf of a config.toml'

complete -c dpsctl -n "__dpsctl_verb_is $with_name; and test (count (__dpsctl_words)) = 1" -a '(__dpsctl_names)'
complete -c dpsctl -n '__dpsctl_verb_is report-hub-failure; and test (count (__dpsctl_words)) = 2' -a 'auth not-found throttled server network'
complete -c dpsctl -n '__dpsctl_verb_is log-level' -a 'emerg alert crit err warning notice info debug'
complete -c dpsctl -n '__dpsctl_verb_is explain' -a '(__dpsctl_ids)'
complete -c dpsctl -n '__dpsctl_verb_is verify-config' -a '(__fish_complete_suffix .conf)'
complete -c dpsctl -n '__dpsctl_verb_is import-config' -a '(__fish_complete_suffix .toml)'

complete -c dpsctl -n '__dpsctl_has_no_verb; or __dpsctl_verb_is status' -l strict -d 'fail if an identity has an error'
complete -c dpsctl -n '__dpsctl_verb_is show' -s p -l property -xa '(__dpsctl_properties)' -d 'only these properties'
complete -c dpsctl -n '__dpsctl_verb_is reprovision' -l wait -d 'wait for the answer'
complete -c dpsctl -n '__dpsctl_verb_is reprovision wait' -l timeout -xa '30s 90s 5min 1h 1d' -d 'how long'
complete -c dpsctl -n '__dpsctl_verb_is wait' -l any -d 'until one is assigned'
complete -c dpsctl -n '__dpsctl_verb_is wait' -l fresh -d 'until DPS has answered anew'
complete -c dpsctl -n '__dpsctl_verb_is token sas' -l lifetime -xa '30s 90s 5min 1h 1d' -d 'how long it is valid'
complete -c dpsctl -n '__dpsctl_verb_is metrics' -l follow -rF -d 'keep a file current'
complete -c dpsctl -n '__dpsctl_verb_is check' -l offline -d 'without a network'
complete -c dpsctl -n '__dpsctl_verb_is check' -l hub-login -d 'also log in at the hub'
complete -c dpsctl -n '__dpsctl_verb_is cat-config verify-config expand' -l root -xa '(__fish_complete_directories)' -d 'the root of an image'
complete -c dpsctl -n '__dpsctl_verb_is import-key' -l force -d 'replace the key of this name'
complete -c dpsctl -n '__dpsctl_verb_is import-config' -l write-key -rF -d 'a file for the key'
complete -c dpsctl -n '__dpsctl_verb_is derive-key sas' -l key -rF -d 'a file'
for option in id-scope registration-id hub device-id expiry
    complete -c dpsctl -n '__dpsctl_verb_is sas' -l $option -x
end

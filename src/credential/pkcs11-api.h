/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The part of PKCS #11 v2.40 (OASIS) that signing and making keys needs, with the layout and the numbers of the standard.
 * Functions that are not called have no type. "Ck" stands for Cryptoki, the standard's name of the interface.
 */

typedef unsigned long CkUlong;
typedef unsigned char CkByte;

enum {
        CKR_OK = 0x00,
        CKR_SLOT_ID_INVALID = 0x03,
        CKR_ARGUMENTS_BAD = 0x07,
        CKR_ATTRIBUTE_VALUE_INVALID = 0x13,
        CKR_DEVICE_ERROR = 0x30,
        CKR_DEVICE_MEMORY = 0x31,
        CKR_DEVICE_REMOVED = 0x32,
        CKR_FUNCTION_NOT_SUPPORTED = 0x54,
        CKR_KEY_SIZE_RANGE = 0x62,
        CKR_KEY_FUNCTION_NOT_PERMITTED = 0x68,
        CKR_MECHANISM_INVALID = 0x70,
        CKR_MECHANISM_PARAM_INVALID = 0x71,
        CKR_PIN_INCORRECT = 0xa0,
        CKR_PIN_INVALID = 0xa1,
        CKR_PIN_LEN_RANGE = 0xa2,
        CKR_PIN_EXPIRED = 0xa3,
        CKR_PIN_LOCKED = 0xa4,
        CKR_SESSION_READ_ONLY = 0xb5,
        CKR_TEMPLATE_INCONSISTENT = 0xd1,
        CKR_TOKEN_NOT_PRESENT = 0xe0,
        CKR_TOKEN_NOT_RECOGNIZED = 0xe1,
        CKR_TOKEN_WRITE_PROTECTED = 0xe2,
        CKR_USER_ALREADY_LOGGED_IN = 0x100,
        CKR_USER_PIN_NOT_INITIALIZED = 0x102,
        CKR_DOMAIN_PARAMS_INVALID = 0x130,
        CKR_CURVE_NOT_SUPPORTED = 0x140,
        CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191,
};

#define CKF_OS_LOCKING_OK 0x02UL
#define CKF_RW_SESSION 0x02UL
#define CKF_SERIAL_SESSION 0x04UL
/* of a token */
#define CKF_WRITE_PROTECTED 0x02UL
#define CKF_LOGIN_REQUIRED 0x04UL
#define CKF_TOKEN_INITIALIZED 0x400UL
#define CKF_USER_PIN_FINAL_TRY 0x20000UL
#define CKF_USER_PIN_LOCKED 0x40000UL

#define CKU_USER 1UL
#define CKU_CONTEXT_SPECIFIC 2UL

#define CKO_PUBLIC_KEY 2UL
#define CKO_PRIVATE_KEY 3UL
#define CKK_RSA 0UL
#define CKK_EC 3UL

#define CKA_CLASS 0x000UL
#define CKA_TOKEN 0x001UL
#define CKA_PRIVATE 0x002UL
#define CKA_LABEL 0x003UL
#define CKA_KEY_TYPE 0x100UL
#define CKA_ID 0x102UL
#define CKA_SENSITIVE 0x103UL
#define CKA_SIGN 0x108UL
#define CKA_VERIFY 0x10aUL
#define CKA_MODULUS 0x120UL
#define CKA_MODULUS_BITS 0x121UL
#define CKA_PUBLIC_EXPONENT 0x122UL
#define CKA_EXTRACTABLE 0x162UL
#define CKA_EC_PARAMS 0x180UL
#define CKA_EC_POINT 0x181UL
#define CKA_ALWAYS_AUTHENTICATE 0x202UL

#define CKM_RSA_PKCS_KEY_PAIR_GEN 0x0000UL
#define CKM_RSA_PKCS 0x0001UL
#define CKM_RSA_X_509 0x0003UL
#define CKM_EC_KEY_PAIR_GEN 0x1040UL
#define CKM_ECDSA 0x1041UL

typedef struct CkVersion {
        CkByte major, minor;
} CkVersion;

/* Texts are padded with spaces and have no zero byte at their end. */
typedef struct CkTokenInfo {
        CkByte label[32], manufacturer[32], model[16], serial[16];
        CkUlong flags;
        CkUlong counts[10];
        CkVersion hardware, firmware;
        CkByte time[16];
} CkTokenInfo;

typedef struct CkAttribute {
        CkUlong type;
        void *value;
        CkUlong size; /* in bytes */
} CkAttribute;

typedef struct CkMechanism {
        CkUlong mechanism;
        void *parameter;
        CkUlong parameter_size;
} CkMechanism;

typedef struct CkInitializeArguments {
        void *create_mutex, *destroy_mutex, *lock_mutex, *unlock_mutex;
        CkUlong flags;
        void *reserved;
} CkInitializeArguments;

typedef struct CkFunctions {
        CkVersion version;
        CkUlong (*initialize)(void *arguments);
        void *finalize, *get_info, *get_function_list;
        CkUlong (*get_slot_list)(CkByte has_token, CkUlong *slots, CkUlong *n);
        void *get_slot_info;
        CkUlong (*get_token_info)(CkUlong slot, CkTokenInfo *ret);
        void *get_mechanism_list, *get_mechanism_info, *init_token, *init_pin, *set_pin;
        CkUlong (*open_session)(CkUlong slot, CkUlong flags, void *userdata, void *notify, CkUlong *ret);
        CkUlong (*close_session)(CkUlong session);
        void *close_all_sessions, *get_session_info, *get_operation_state, *set_operation_state;
        CkUlong (*login)(CkUlong session, CkUlong user, const CkByte *pin, CkUlong size);
        void *logout, *create_object, *copy_object;
        CkUlong (*destroy_object)(CkUlong session, CkUlong object);
        void *get_object_size;
        CkUlong (*get_attribute_value)(CkUlong session, CkUlong object, CkAttribute *attributes, CkUlong n);
        void *set_attribute_value;
        CkUlong (*find_objects_init)(CkUlong session, CkAttribute *attributes, CkUlong n);
        CkUlong (*find_objects)(CkUlong session, CkUlong *objects, CkUlong max, CkUlong *ret_n);
        CkUlong (*find_objects_final)(CkUlong session);
        void *encrypt[4], *decrypt[4], *digest[5];
        CkUlong (*sign_init)(CkUlong session, const CkMechanism *mechanism, CkUlong key);
        CkUlong (*sign)(CkUlong session, const CkByte *data, CkUlong size, CkByte *ret, CkUlong *ret_size);
        void *sign_more[4], *verify[6], *combined[4], *generate_key;
        CkUlong (*generate_key_pair)(CkUlong session, const CkMechanism *mechanism, CkAttribute *public_key,
                                     CkUlong n_public, CkAttribute *private_key, CkUlong n_private,
                                     CkUlong *ret_public, CkUlong *ret_private);
        /* more follow */
} CkFunctions;

typedef CkUlong (*CkGetFunctionList)(CkFunctions **ret);

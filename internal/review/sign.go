package review

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/nats-io/nkeys"
)

// SignatureHeader holds "<public NKey>.<base64url of the Ed25519 signature>".
const SignatureHeader = "Vpcep-Signature"

// signed is what a signature is made of. A NATS client signs any nonce that a server
// sends, with the same kind of key: what begins with the byte 0xFF is never one.
func signed(data []byte) []byte {
	const purpose = "\xffvpcep.review.v1\x00"
	return append([]byte(purpose), data...)
}

// Sign returns the value of SignatureHeader for data. seed is the user NKey of a
// reviewer or a console; errors never show it.
func Sign(seed, data []byte) (string, error) {
	pair, err := nkeys.FromSeed(seed)
	if err != nil {
		return "", fmt.Errorf("the key is not the seed of an NKey: %w", err)
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("read the public key: %w", err)
	}
	if !nkeys.IsValidPublicUserKey(public) {
		return "", fmt.Errorf("the key is not a user NKey; make one with worker reviews keygen")
	}
	signature, err := pair.Sign(signed(data))
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return public + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// Verify returns the public key that signed data. Whose key it is, and whether it is
// trusted, is for the caller to find out. Any error is an *InvalidError.
func Verify(header string, data []byte) (publicKey string, err error) {
	public, text, ok := strings.Cut(header, ".")
	if !ok || !nkeys.IsValidPublicUserKey(public) {
		return "", badSignature("it must be a public user NKey, a dot and a signature")
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", badSignature("the signature is not base64url without padding")
	}
	key, err := nkeys.FromPublicKey(public)
	if err != nil {
		return "", badSignature("the key cannot be read")
	}
	if err := key.Verify(signed(data), signature); err != nil {
		return "", badSignature("the signature is not of this key and these bytes")
	}
	return public, nil
}

func badSignature(text string) *InvalidError {
	return &InvalidError{Code: CodeBadSignature, Field: "header " + SignatureHeader, Text: text}
}

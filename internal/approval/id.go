package approval

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// An id of the cloud can be written in upper and lower case, with dashes and
// without; it is the same id. Everything that compares ids compares one spelling:
// CanonicalID, or UUID for what the cloud itself writes with dashes. Both return
// what is no id in lower case.

// CanonicalID is id in lower case and without dashes, as the cloud writes the ids
// of accounts, projects and instances.
func CanonicalID(id string) string {
	if len(id) == uuidLen && IsID(id) {
		id = strings.ReplaceAll(id, "-", "")
	}
	return lower(id)
}

// lower is strings.ToLower, faster for what is in lower case already, as ids are.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; c-'A' < 26 || c >= utf8.RuneSelf {
			return strings.ToLower(s)
		}
	}
	return s
}

// UUID is id in lower case and with dashes, as the cloud writes the ids of
// endpoints, endpoint services, VPCs, subnets and servers.
func UUID(id string) string {
	if len(id) == hexLen && IsID(id) {
		id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
	}
	return lower(id)
}

// SameID reports whether a and b are spellings of the same id.
func SameID(a, b string) bool {
	return a == b || len(a) == len(b) && strings.EqualFold(a, b) || CanonicalID(a) == CanonicalID(b)
}

// UUIDAtEnd is name with the id behind its last dot as UUID writes it, if it ends
// in an id: the full name of an endpoint service is "region.name.serviceId".
func UUIDAtEnd(name string) string {
	i := strings.LastIndexByte(name, '.') + 1
	if !IsID(name[i:]) {
		return name
	}
	return name[:i] + UUID(name[i:])
}

const (
	hexLen  = 32
	uuidLen = 36
)

// ValidID reports why id cannot be the id of a cloud resource: Huawei Cloud ids
// are UUIDs or 32 hexadecimal digits. Anything else must not get near a URL.
func ValidID(id string) error {
	if IsID(id) {
		return nil
	}
	return fmt.Errorf("%.80q is neither a UUID nor 32 hexadecimal digits", id)
}

// IsID reports whether ValidID finds nothing wrong with id.
func IsID(id string) bool {
	if len(id) != hexLen && len(id) != uuidLen {
		return false
	}
	for i := range len(id) {
		c := id[i]
		dash := len(id) == uuidLen && (i == 8 || i == 13 || i == 18 || i == 23)
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}

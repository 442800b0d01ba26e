package ccm

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/opencmg/opencmg"
)

// EncodeUTF16 returns s as UTF-16LE without a mark.
func EncodeUTF16(s string) []byte { return appendUTF16(make([]byte, 0, 2*len(s)+2), s) }

// EncodeUTF16Z is EncodeUTF16 followed by one UTF-16 NUL, the form in which
// clients sign IDs and header values (wire.md 4).
func EncodeUTF16Z(s string) []byte { return append(EncodeUTF16(s), 0, 0) }

// encodeUTF16Mark is EncodeUTF16 behind the byte-order mark FF FE.
func encodeUTF16Mark(s string) []byte {
	return appendUTF16(append(make([]byte, 0, 2*len(s)+2), 0xff, 0xfe), s)
}

func appendUTF16(b []byte, s string) []byte {
	for _, r := range s {
		if r1, r2 := utf16.EncodeRune(r); r1 != utf8.RuneError {
			b = binary.LittleEndian.AppendUint16(b, uint16(r1))
			b = binary.LittleEndian.AppendUint16(b, uint16(r2))
		} else {
			b = binary.LittleEndian.AppendUint16(b, uint16(r))
		}
	}
	return b
}

// DecodeUTF16 reads UTF-16LE text; a leading byte-order mark and trailing NULs
// are dropped. Unpaired surrogates are refused, so that encoding the result
// gives back the very bytes that a signature covers.
func DecodeUTF16(b []byte) (string, error) {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 0xfe {
		b = b[2:]
	}
	for len(b) > 0 && b[len(b)-1] == 0 && (len(b)%2 == 1 || b[len(b)-2] == 0) {
		if len(b)%2 == 1 {
			b = b[:len(b)-1]
		} else {
			b = b[:len(b)-2]
		}
	}
	if len(b)%2 != 0 {
		return "", opencmg.Errorf(opencmg.Invalid, "UTF-16 text has an odd number of bytes")
	}
	out := make([]byte, 0, len(b)/2+16)
	for i := 0; i < len(b); i += 2 {
		r := rune(binary.LittleEndian.Uint16(b[i:]))
		if utf16.IsSurrogate(r) {
			if i+4 > len(b) {
				return "", opencmg.Errorf(opencmg.Invalid, "UTF-16 text has an unpaired surrogate")
			}
			i += 2
			if r = utf16.DecodeRune(r, rune(binary.LittleEndian.Uint16(b[i:]))); r == utf8.RuneError {
				return "", opencmg.Errorf(opencmg.Invalid, "UTF-16 text has an unpaired surrogate")
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out), nil
}

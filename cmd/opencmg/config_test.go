package main

import (
	"strings"
	"testing"
)

func TestNewGUID(t *testing.T) {
	a, b := newGUID(), newGUID()
	if len(a) != 36 || a == b || a[14] != '4' || strings.ToUpper(a) != a {
		t.Errorf("got %s and %s", a, b)
	}
}

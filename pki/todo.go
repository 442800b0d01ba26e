package pki

import "errors"

var errTodo = errors.New("pki: not written yet")

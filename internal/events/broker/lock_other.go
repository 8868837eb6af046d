//go:build !unix

package broker

import (
	"errors"
	"os"
)

func tryLock(*os.File, bool) error {
	return errors.New("the embedded NATS server needs file locks, which this system lacks")
}

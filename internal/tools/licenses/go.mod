module github.com/vpcep-approver/vpcep-approver/internal/tools/licenses

go 1.26.0

toolchain go1.26.10

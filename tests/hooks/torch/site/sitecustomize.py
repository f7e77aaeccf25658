# SPDX-License-Identifier: Apache-2.0
print("the program's own sitecustomize as", __name__)

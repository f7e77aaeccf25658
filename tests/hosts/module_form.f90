! SPDX-License-Identifier: Apache-2.0
! Four calls of each kind through module mpi, and messages in the background.
program module_form
  use mpi
  implicit none
  integer :: ierr, i, rank, ranks
  integer :: requests(2)
  real(8) :: values(64), other(64)
  values = 1d0
  call MPI_INIT(ierr)
  call MPI_COMM_RANK(MPI_COMM_WORLD, rank, ierr)
  call MPI_COMM_SIZE(MPI_COMM_WORLD, ranks, ierr)
  do i = 1, 4
    call MPI_ALLREDUCE(MPI_IN_PLACE, values, 64, MPI_DOUBLE_PRECISION, MPI_MAX, MPI_COMM_WORLD, ierr)
    call MPI_ALLGATHER(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, other, 16, MPI_BYTE, MPI_COMM_WORLD, ierr)
    call MPI_ISEND(values, 64, MPI_DOUBLE_PRECISION, ranks - 1 - rank, 3, MPI_COMM_WORLD, requests(1), ierr)
    call MPI_IRECV(other, 64, MPI_DOUBLE_PRECISION, ranks - 1 - rank, 3, MPI_COMM_WORLD, requests(2), ierr)
    call MPI_WAITALL(2, requests, MPI_STATUSES_IGNORE, ierr)
  end do
  call MPI_FINALIZE(ierr)
end program

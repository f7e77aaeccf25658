! SPDX-License-Identifier: Apache-2.0
! Four calls of each kind through mpif.h (fixed_form), module mpi with messages in the background
! (module_form), or module mpi_f08 (typed_form).
program calls
#ifdef typed_form
  use mpi_f08
#endif
#ifdef module_form
  use mpi
#endif
  implicit none
#ifdef fixed_form
  include 'mpif.h'
#endif
  integer :: ierr, i, rank, ranks
  real(8) :: values(64)
#ifdef module_form
  integer :: requests(2)
  real(8) :: other(64)
#endif
  values = 1d0
  call MPI_INIT(ierr)
  call MPI_COMM_RANK(MPI_COMM_WORLD, rank, ierr)
  call MPI_COMM_SIZE(MPI_COMM_WORLD, ranks, ierr)
  do i = 1, 4
    call MPI_ALLREDUCE(MPI_IN_PLACE, values, 64, MPI_DOUBLE_PRECISION, MPI_MAX, MPI_COMM_WORLD, ierr)
#ifdef module_form
    call MPI_ALLGATHER(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, other, 16, MPI_BYTE, MPI_COMM_WORLD, ierr)
    call MPI_ISEND(values, 64, MPI_DOUBLE_PRECISION, ranks - 1 - rank, 3, MPI_COMM_WORLD, requests(1), ierr)
    call MPI_IRECV(other, 64, MPI_DOUBLE_PRECISION, ranks - 1 - rank, 3, MPI_COMM_WORLD, requests(2), ierr)
    call MPI_WAITALL(2, requests, MPI_STATUSES_IGNORE, ierr)
#endif
  end do
  call MPI_FINALIZE(ierr)
end program
